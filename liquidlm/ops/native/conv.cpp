// The short convolution over the events of each document, plus the gap, forward and backward in one pass each:
//
//     y_i = Σ_w taps_w·x_{i−kept+w} + log_gap_i·gap_scale,   w = 0…kept,   over the x of the document of y_i
//
// x_{−kept}…x_{−1} are the tail. The backward pass goes over the inputs: x_k is in y_k…y_{k+kept}.
//
// Work is split into rows × blocks of units. What a block adds to a sum over units or rows goes to its own
// place; the caller adds these in order. So the result has the same bits on every run.
#include "lanes.h"

// Units of a block: a block of an event is read in whole cache lines.
constexpr int64_t BLOCK = 64;

constexpr int VECS = BLOCK / LANES;

struct Sizes {
  int64_t rows, length, width, kept, threads;
};

// The number of the document of an event of a row; the tail is of document 0.
INLINE float document(const float* segment, int64_t i) { return segment && i >= 0 ? segment[i] : 0.0f; }

// For every block of units of every row, in parallel: run(row, first unit, units of the block). The compiler
// sees that most blocks are whole.
template <typename Run>
INLINE void for_blocks(const Sizes& z, Run run) {
#pragma omp parallel for collapse(2) num_threads(z.threads) schedule(static)
  for (int64_t b = 0; b < z.rows; b++)
    for (int64_t first = 0; first < z.width; first += BLOCK)
      if (z.width - first >= BLOCK) run(b, first, BLOCK);
      else run(b, first, z.width - first);
}

template <typename X, typename Y>
static void forward(const X* x, const float* taps, const float* tail, const float* segment,
                    const float* log_gap, const float* gap_scale, Y* out, Sizes z) {
  for_blocks(z, [&](int64_t b, int64_t first, int64_t units) __attribute__((always_inline)) {
    const float* numbers = segment ? segment + b * z.length : nullptr;
    for (int64_t i = 0; i < z.length; i++) {
      int64_t event = b * z.length + i;
      Vec y[VECS];
      for (int v = 0; v * LANES < units; v++)
        y[v] = log_gap[event] * load(gap_scale + first + v * LANES, units - v * LANES);
      auto add = [&](auto* input, const float* tap) __attribute__((always_inline)) {
        for (int v = 0; v * LANES < units; v++)
          y[v] += load(tap + v * LANES, units - v * LANES) * load(input + v * LANES, units - v * LANES);
      };
      for (int64_t w = 0; w <= z.kept; w++) {
        int64_t k = i - z.kept + w;
        if (document(numbers, k) != document(numbers, i)) continue;
        const float* tap = taps + w * z.width + first;
        if (k < 0) add(tail + (b * z.kept + z.kept + k) * z.width + first, tap);
        else add(x + (b * z.length + k) * z.width + first, tap);
      }
      for (int v = 0; v * LANES < units; v++)
        store(out + event * z.width + first + v * LANES, y[v], units - v * LANES);
    }
  });
}

template <typename X, typename Y>
static void backward(const X* x, const float* taps, const float* tail, const float* segment,
                     const float* log_gap, const float* gap_scale, const Y* grad, X* grad_x,
                     float* taps_sums, float* grad_tail, float* log_gap_sums, float* scale_sums, Sizes z) {
  for_blocks(z, [&](int64_t b, int64_t first, int64_t units) __attribute__((always_inline)) {
    const float* numbers = segment ? segment + b * z.length : nullptr;
    float* of_taps = taps_sums + b * (z.kept + 1) * z.width + first;
    for (int64_t w = 0; w <= z.kept; w++)
      for (int64_t j = 0; j < units; j++) of_taps[w * z.width + j] = 0.0f;
    // The gradient of the input k, read from `input` and written to `into`.
    auto of_input = [&](int64_t k, auto* input, auto* into) __attribute__((always_inline)) {
      Vec of_x[VECS] = {};
      for (int64_t w = 0; w <= z.kept; w++) {
        int64_t i = k + z.kept - w;
        if (i < 0 || i >= z.length || document(numbers, i) != document(numbers, k)) continue;
        const Y* g = grad + (b * z.length + i) * z.width + first;
        const float* tap = taps + w * z.width + first;
        float* of_tap = of_taps + w * z.width;
        for (int v = 0; v * LANES < units; v++) {
          int64_t j = v * LANES, n = units - j;
          Vec g_v = load(g + j, n);
          of_x[v] += load(tap + j, n) * g_v;
          store(of_tap + j, load(of_tap + j, n) + load(input + j, n) * g_v, n);
        }
      }
      for (int v = 0; v * LANES < units; v++) store(into + v * LANES, of_x[v], units - v * LANES);
    };
    for (int64_t k = 0; k < z.kept; k++) {
      int64_t at = (b * z.kept + k) * z.width + first;
      of_input(k - z.kept, tail + at, grad_tail + at);
    }
    Vec of_scale[VECS] = {};
    for (int64_t k = 0; k < z.length; k++) {
      int64_t event = b * z.length + k, at = event * z.width + first;
      of_input(k, x + at, grad_x + at);
      Vec of_gap{};
      for (int v = 0; v * LANES < units; v++) {
        int64_t j = v * LANES, n = units - j;
        Vec g = load(grad + at + j, n);
        of_gap += g * load(gap_scale + first + j, n);
        of_scale[v] += g * log_gap[event];
      }
      log_gap_sums[first / BLOCK * z.rows * z.length + event] = sum(of_gap);
    }
    for (int v = 0; v * LANES < units; v++)
      store(scale_sums + b * z.width + first + v * LANES, of_scale[v], units - v * LANES);
  });
}

EXPORT int64_t KERNEL(conv_blocks)(int64_t width) { return (width + BLOCK - 1) / BLOCK; }

EXPORT void KERNEL(conv_forward)(int64_t x_bf16, int64_t y_bf16, const void* x, const float* taps,
                                 const float* tail, const float* segment, const float* log_gap,
                                 const float* gap_scale, void* out, int64_t rows, int64_t length,
                                 int64_t width, int64_t kept, int64_t threads) {
  auto run = [&](auto* x, auto* out) {
    forward(x, taps, tail, segment, log_gap, gap_scale, out, {rows, length, width, kept, threads});
  };
  if (x_bf16 && y_bf16) run((const bf16*)x, (bf16*)out);
  else if (x_bf16) run((const bf16*)x, (float*)out);
  else if (y_bf16) run((const float*)x, (bf16*)out);
  else run((const float*)x, (float*)out);
}

EXPORT void KERNEL(conv_backward)(int64_t x_bf16, int64_t y_bf16, const void* x, const float* taps,
                                  const float* tail, const float* segment, const float* log_gap,
                                  const float* gap_scale, const void* grad, void* grad_x, float* taps_sums,
                                  float* grad_tail, float* log_gap_sums, float* scale_sums, int64_t rows,
                                  int64_t length, int64_t width, int64_t kept, int64_t threads) {
  auto run = [&](auto* x, auto* grad, auto* grad_x) {
    backward(x, taps, tail, segment, log_gap, gap_scale, grad, grad_x, taps_sums, grad_tail, log_gap_sums,
             scale_sums, {rows, length, width, kept, threads});
  };
  if (x_bf16 && y_bf16) run((const bf16*)x, (const bf16*)grad, (bf16*)grad_x);
  else if (x_bf16) run((const bf16*)x, (const float*)grad, (bf16*)grad_x);
  else if (y_bf16) run((const float*)x, (const bf16*)grad, (float*)grad_x);
  else run((const float*)x, (const float*)grad, (float*)grad_x);
}
