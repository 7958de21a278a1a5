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

// The members of a named class would exist once for all instruction sets: the linker keeps one of equal names.
namespace {

struct Sizes {
  int64_t rows, length, width, kept, threads;
};

template <typename X>
struct Inputs {
  const X* x;
  const float *taps, *tail, *segment, *log_gap, *gap_scale;
  Sizes z;

  int64_t event(int64_t b, int64_t i) const { return b * z.length + i; }
  // Where the inputs of an event begin; those before the first one are in the tail.
  int64_t in_x(int64_t b, int64_t i) const { return event(b, i) * z.width; }
  int64_t in_tail(int64_t b, int64_t i) const { return (b * z.kept + z.kept + i) * z.width; }
  // Whether two events are of one document; the tail is of document 0.
  bool together(int64_t b, int64_t i, int64_t k) const {
    return !segment || (i < 0 ? 0.0f : segment[event(b, i)]) == (k < 0 ? 0.0f : segment[event(b, k)]);
  }
};

template <typename X>
INLINE Inputs<X> inputs(const X* x, const float* taps, const float* tail, const float* segment,
                        const float* log_gap, const float* gap_scale, Sizes z) {
  return {x, taps, tail, segment, log_gap, gap_scale, z};
}

// Units in V vectors side by side, of which the last has n.
template <int V>
struct Part {
  static constexpr int vectors = V;
  int64_t first, n;

  int64_t at(int v) const { return first + v * LANES; }
  int64_t count(int v) const { return v + 1 < V ? LANES : n; }
};

// Calls run(row, part) for the blocks of units of every row, in parallel. Where units fill no block, each vector of
// them is a part.
template <typename Run>
INLINE void for_blocks(const Sizes& z, Run run) {
#pragma omp parallel for collapse(2) num_threads(z.threads) schedule(static)
  for (int64_t b = 0; b < z.rows; b++)
    for (int64_t first = 0; first < z.width; first += BLOCK)
      if (z.width - first >= BLOCK) run(b, Part<VECS>{first, LANES});
      else
        for (int64_t j = first; j < z.width; j += LANES) run(b, Part<1>{j, z.width - j});
}

// Calls run(part) for each vector: what is done once per row, in less code.
template <int V, typename Run>
INLINE void one_by_one(const Part<V>& part, Run run) {
#pragma GCC unroll 1
  for (int v = 0; v < V; v++) run(Part<1>{part.at(v), part.count(v)});
}

// y_i. With `early`, its inputs may be in the tail.
template <bool early, int V, typename X, typename Y>
INLINE void output(const Inputs<X>& p, int64_t b, int64_t i, const Part<V>& part, Y* out) {
  float log_gap = p.log_gap[p.event(b, i)];
  Vec y[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; v++) y[v] = log_gap * load(p.gap_scale + part.at(v), part.count(v));
  for (int64_t w = 0; w <= p.z.kept; w++) {
    int64_t k = i - p.z.kept + w;
    if (!p.together(b, i, k)) continue;
    const float* tap = p.taps + w * p.z.width;
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) {
      int64_t j = part.at(v), n = part.count(v);
      Vec x = early && k < 0 ? load(p.tail + p.in_tail(b, k) + j, n) : load(p.x + p.in_x(b, k) + j, n);
      y[v] += load(tap + j, n) * x;
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; v++) store(out + p.in_x(b, i) + part.at(v), y[v], part.count(v));
}

template <typename X, typename Y>
static void forward(const Inputs<X>& given, Y* out) {
  for_blocks(given.z, [&](int64_t b, auto part) INLINED {
    Inputs<X> p = given;
    bool whole = decltype(part)::vectors > 1;
    int64_t early = whole && p.z.kept < p.z.length ? p.z.kept : p.z.length;
    for (int64_t i = 0; i < early; i++)
      one_by_one(part, [&](Part<1> one) INLINED { output<true>(p, b, i, one, out); });
    for (int64_t i = early; whole && i < p.z.length; i++) output<false>(p, b, i, part, out);
  });
}

// The gradient of x_k, read from `input` and written to `into`; adds to that of the taps.
template <int V, typename X, typename Y, typename Input>
INLINE void input_gradient(const Inputs<X>& p, int64_t b, int64_t k, const Part<V>& part, const Y* grad,
                           const Input* input, Input* into, float* of_taps) {
  Vec of_x[V] = {};
  for (int64_t w = 0; w <= p.z.kept; w++) {
    int64_t i = k + p.z.kept - w;
    if (i < 0 || i >= p.z.length || !p.together(b, i, k)) continue;
    const Y* g = grad + p.in_x(b, i);
    const float* tap = p.taps + w * p.z.width;
    float* of_tap = of_taps + w * p.z.width;
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) {
      int64_t j = part.at(v), n = part.count(v);
      Vec g_v = load(g + j, n);
      of_x[v] += load(tap + j, n) * g_v;
      store(of_tap + j, load(of_tap + j, n) + load(input + j, n) * g_v, n);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; v++) store(into + part.at(v), of_x[v], part.count(v));
}

template <typename X, typename Y>
static void backward(const Inputs<X>& given, const Y* grad, X* grad_x, float* taps_sums, float* grad_tail,
                     float* log_gap_sums, float* scale_sums) {
  for_blocks(given.z, [&](int64_t b, auto part) INLINED {
    constexpr int V = decltype(part)::vectors;
    Inputs<X> p = given;
    float* of_taps = taps_sums + b * (p.z.kept + 1) * p.z.width;
    one_by_one(part, [&](Part<1> one) INLINED {
      for (int64_t w = 0; w <= p.z.kept; w++) store(of_taps + w * p.z.width + one.first, Vec{}, one.n);
      for (int64_t k = -p.z.kept; k < 0; k++) {
        int64_t at = p.in_tail(b, k);
        input_gradient(p, b, k, one, grad, p.tail + at, grad_tail + at, of_taps);
      }
    });
    float* of_gaps = log_gap_sums + part.first / BLOCK * p.z.rows * p.z.length;
    Vec of_scale[V] = {};
    for (int64_t k = 0; k < p.z.length; k++) {
      int64_t event = p.event(b, k), at = p.in_x(b, k);
      input_gradient(p, b, k, part, grad, p.x + at, grad_x + at, of_taps);
      Vec of_gap{};
#pragma GCC unroll 16
      for (int v = 0; v < V; v++) {
        int64_t j = part.at(v), n = part.count(v);
        Vec g = load(grad + at + j, n);
        of_gap += g * load(p.gap_scale + j, n);
        of_scale[v] += g * p.log_gap[event];
      }
      of_gaps[event] = sum(of_gap) + (part.first % BLOCK ? of_gaps[event] : 0.0f);
    }
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) store(scale_sums + b * p.z.width + part.at(v), of_scale[v], part.count(v));
  });
}

}  // namespace

EXPORT int64_t KERNEL(conv_blocks)(int64_t width) { return (width + BLOCK - 1) / BLOCK; }

// y is in the type of x or in bf16.
EXPORT void KERNEL(conv_forward)(int64_t x_bf16, int64_t y_bf16, const void* x, const float* taps,
                                 const float* tail, const float* segment, const float* log_gap,
                                 const float* gap_scale, void* out, int64_t rows, int64_t length,
                                 int64_t width, int64_t kept, int64_t threads) {
  auto run = [&](auto* x, auto* out) {
    forward(inputs(x, taps, tail, segment, log_gap, gap_scale, {rows, length, width, kept, threads}), out);
  };
  if (x_bf16) run((const bf16*)x, (bf16*)out);
  else if (y_bf16) run((const float*)x, (bf16*)out);
  else run((const float*)x, (float*)out);
}

EXPORT void KERNEL(conv_backward)(int64_t x_bf16, int64_t y_bf16, const void* x, const float* taps,
                                  const float* tail, const float* segment, const float* log_gap,
                                  const float* gap_scale, const void* grad, void* grad_x, float* taps_sums,
                                  float* grad_tail, float* log_gap_sums, float* scale_sums, int64_t rows,
                                  int64_t length, int64_t width, int64_t kept, int64_t threads) {
  auto run = [&](auto* x, auto* grad, auto* grad_x) {
    backward(inputs(x, taps, tail, segment, log_gap, gap_scale, {rows, length, width, kept, threads}), grad,
             grad_x, taps_sums, grad_tail, log_gap_sums, scale_sums);
  };
  if (x_bf16) run((const bf16*)x, (const bf16*)grad, (bf16*)grad_x);
  else if (y_bf16) run((const float*)x, (const bf16*)grad, (float*)grad_x);
  else run((const float*)x, (const float*)grad, (float*)grad_x);
}
