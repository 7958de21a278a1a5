// The liquid neuron whose synapse depends on the state before the event, over a sequence:
//
//     c = silu(z),   z = encoded + of_state·tanh h,   s = synapse + of_context·c,   h ← relaxed under s
//
// Events come one after the other. Rows of the batch are independent: each thread has its own, and computes a
// few side by side. With fewer rows than threads the units of a row are shared, and the threads wait for each
// other twice per event. The result has the same bits on every run.
//
// The backward pass reads z, s and h, and goes from the last event to the first. It writes the gradients of
// encoded and synapse. Those of the two matrices are products over all events of these with c and tanh h,
// which it writes too; the caller computes them.
#include "panels.h"
#include "relaxation.h"

#ifdef _OPENMP
#include <omp.h>
#endif

// The members of a named class would exist once for all instruction sets: the linker keeps one of equal names.
namespace {

// The part of the work of one thread: rows first…last, and a share of the panels.
struct Share {
  int64_t part, parts;

  int64_t begin(int64_t panels) const { return part < parts ? panels * part / parts : panels; }
  int64_t end(int64_t panels) const { return part < parts ? panels * (part + 1) / parts : panels; }
  void wait() const {
    if (parts > 1) {
#pragma omp barrier
    }
  }
};

}  // namespace

// Calls work(first, last, share) for tiles of rows, on several threads.
template <typename Work>
static void over_rows(int64_t rows, int64_t threads, Work work) {
#pragma omp parallel num_threads(threads)
  {
    int64_t id = 0, count = 1;
#ifdef _OPENMP
    id = omp_get_thread_num(), count = omp_get_num_threads();
#endif
    int64_t each = parts_of(rows, count), tile = parts_of(each, parts_of(each, TILE));
    int64_t tiles = parts_of(rows, tile), parts = count > tiles ? count / tiles : 1;
    // A thread too many shares the first tile, with nothing to do but to wait with the others.
    bool spare = parts > 1 && id >= tiles * parts;
    Share share{spare ? parts : id % parts, parts};
    for (int64_t i = spare ? 0 : id / parts; i < tiles; i += parts > 1 ? tiles : count) {
      int64_t last = (i + 1) * tile;
      work(i * tile, last < rows ? last : rows, share);
    }
  }
}

struct Sizes {
  int64_t rows, length, width, context;
};

template <typename T>
static void forward(const T* encoded, const T* synapse, const float* of_state, const float* of_context,
                    const float* leak, const float* duration, const float* pace, const float* h0,
                    const uint8_t* start, float* z, float* s, float* h, float* tanh_h, float* c, Sizes n,
                    int64_t threads) {
  int64_t encoders = parts_of(n.context, PANEL), units = parts_of(n.width, LANES);
  over_rows(n.rows, threads, [=](int64_t first, int64_t last, Share share) {
    float sums[TILE * PANEL] __attribute__((aligned(64)));
    for (int64_t i = 0; i < n.length; i++) {
      for (int64_t b = first; b < last; b++) {
        int64_t event = b * n.length + i;
        const float* before = i ? h + (event - 1) * n.width : h0 + b * n.width;
        bool begins = start && start[event];
        for (int64_t p = share.begin(units); p < share.end(units); p++) {
          int64_t j = p * LANES, m = n.width - j;
          store(tanh_h + b * n.width + j, begins ? Vec{} : tanh(load(before + j, m)), m);
        }
      }
      share.wait();
      for (int64_t p = share.begin(encoders); p < share.end(encoders); p++) {
        product(last - first, tanh_h + first * n.width, n.width, of_state + p * panel_size(n.width), sums);
        for (int64_t b = first; b < last; b++)
#pragma GCC unroll 2
          for (int64_t k = 0; k < 2; k++) {
            int64_t j = p * PANEL + k * LANES, m = n.context - j, at = (b * n.length + i) * n.context + j;
            if (m <= 0) break;
            Vec y = load(encoded + at, m) + load(sums + (b - first) * PANEL + k * LANES);
            if (z) store(z + at, y, m);
            store(c + b * n.context + j, y * sigmoid(y), m);
          }
      }
      share.wait();
      for (int64_t p = share.begin(units); p < share.end(units); p++) {
        product(last - first, c + first * n.context, n.context, of_context + p * panel_size(n.context), sums);
        int64_t j = p * LANES, m = n.width - j;
        Vec leak_j = load(leak + j, m), pace_j = load(pace + j, m, 1.0f);
        for (int64_t b = first; b < last; b++) {
          int64_t event = b * n.length + i, at = event * 2 * n.width + j;
          const float* before = i ? h + (event - 1) * n.width : h0 + b * n.width;
          Vec f = load(synapse + at, m) + load(sums + (b - first) * PANEL);
          Vec potential = load(synapse + at + n.width, m) + load(sums + (b - first) * PANEL + LANES);
          if (s) store(s + at, f, m), store(s + at + n.width, potential, m);
          Vec held = start && start[event] ? Vec{} : load(before + j, m);
          Vec after = relaxed(relaxation(f, leak_j, pace_j, duration[event]), potential, held);
          store(h + event * n.width + j, after, m);
        }
      }
    }
  });
}

template <typename T>
static void backward(const float* to_context, const float* to_state, const float* leak,
                     const float* duration, const float* pace, const float* h0, const uint8_t* start,
                     const float* z, const float* s, const float* h, const float* grad, T* grad_encoded,
                     T* grad_synapse, T* tanh_h, T* c, float* duration_sums, float* leak_sums,
                     float* pace_sums, float* grad_h0, float* of_s, float* of_z, Sizes n, int64_t threads) {
  int64_t encoders = parts_of(n.context, PANEL), units = parts_of(n.width, PANEL);
  over_rows(n.rows, threads, [=](int64_t first, int64_t last, Share share) {
    float sums[TILE * PANEL] __attribute__((aligned(64)));
    for (int64_t i = n.length - 1; i >= 0; i--) {
      for (int64_t b = first; b < last; b++) {
        int64_t event = b * n.length + i;
        const float* before = i ? h + (event - 1) * n.width : h0 + b * n.width;
        bool begins = start && start[event];
        for (int64_t p = share.begin(units); p < share.end(units); p++) {
          Vec of_time{};
          for (int64_t j = p * PANEL; j < (p + 1) * PANEL && j < n.width; j += LANES) {
            int64_t m = n.width - j, at = event * 2 * n.width + j, unit = b * n.width + j;
            Vec pace_j = load(pace + j, m, 1.0f), held = begins ? Vec{} : load(before + j, m);
            Relaxation x = relaxation(load(s + at, m), load(leak + j, m), pace_j, duration[event]);
            Vec adjoint = load(grad + event * n.width + j, m) + load(grad_h0 + unit, m);
            RelaxationGrads to = gradients(x, load(s + at + n.width, m), pace_j, duration[event], held, adjoint);
            store(of_s + b * 2 * n.width + j, to.synapse, m);
            store(of_s + (b * 2 + 1) * n.width + j, to.potential, m);
            store(grad_synapse + at, to.synapse, m);
            store(grad_synapse + at + n.width, to.potential, m);
            store(grad_h0 + unit, begins ? Vec{} : to.held, m);
            store(leak_sums + unit, load(leak_sums + unit, m) + to.leak, m);
            store(pace_sums + unit, load(pace_sums + unit, m) + to.pace, m);
            of_time += to.duration;
          }
          duration_sums[p * n.rows * n.length + event] = sum(of_time);
        }
      }
      share.wait();
      for (int64_t p = share.begin(encoders); p < share.end(encoders); p++) {
        int64_t depth = 2 * n.width;
        product(last - first, of_s + first * depth, depth, to_context + p * panel_size(depth), sums);
        for (int64_t b = first; b < last; b++)
#pragma GCC unroll 2
          for (int64_t k = 0; k < 2; k++) {
            int64_t j = p * PANEL + k * LANES, m = n.context - j, at = (b * n.length + i) * n.context + j;
            if (m <= 0) break;
            Vec y = load(z + at, m), gate = sigmoid(y);
            Vec grad_z = load(sums + (b - first) * PANEL + k * LANES) * gate * (1.0f + y * (1.0f - gate));
            store(of_z + b * n.context + j, grad_z, m);
            store(grad_encoded + at, grad_z, m);
            store(c + at, y * gate, m);
          }
      }
      share.wait();
      for (int64_t p = share.begin(units); p < share.end(units); p++) {
        product(last - first, of_z + first * n.context, n.context, to_state + p * panel_size(n.context), sums);
        for (int64_t b = first; b < last; b++)
#pragma GCC unroll 2
          for (int64_t k = 0; k < 2; k++) {
            int64_t j = p * PANEL + k * LANES, m = n.width - j, event = b * n.length + i;
            if (m <= 0) break;
            const float* before = i ? h + (event - 1) * n.width : h0 + b * n.width;
            bool begins = start && start[event];
            Vec y = begins ? Vec{} : tanh(load(before + j, m));
            store(tanh_h + event * n.width + j, y, m);
            float* carry = grad_h0 + b * n.width + j;
            if (!begins) store(carry, load(carry, m) + load(sums + (b - first) * PANEL + k * LANES) * (1.0f - y * y), m);
          }
      }
    }
  });
}

// Numbers of a packed matrix: of `depth` inputs and `width` columns, or of pairs of columns.
EXPORT int64_t KERNEL(nonlinear_packed)(int64_t depth, int64_t width) {
  return parts_of(width, LANES) * panel_size(depth);
}
EXPORT int64_t KERNEL(nonlinear_blocks)(int64_t width) { return parts_of(width, PANEL); }

#define ARGUMENTS_OF_FORWARD(T)                                                                            \
  (const T*)encoded, (const T*)synapse, state_panels, context_panels, leak, duration, pace, h0, start, z, \
      s, h, tanh_h, c, n, threads

EXPORT void KERNEL(nonlinear_forward)(int64_t is_bf16, const void* encoded, const void* synapse,
                                      const float* of_state, const float* of_context, const float* leak,
                                      const float* duration, const float* pace, const float* h0,
                                      const uint8_t* start, float* z, float* s, float* h, float* tanh_h,
                                      float* c, float* state_panels, float* context_panels, int64_t rows,
                                      int64_t length, int64_t width, int64_t context, int64_t threads) {
  Sizes n{rows, length, width, context};
  pack(of_state, 1, width, width, context, parts_of(context, PANEL), PANEL, LANES, context, state_panels);
  pack(of_context, 1, context, context, width, parts_of(width, LANES), LANES, width, 2 * width,
       context_panels);
  if (is_bf16) forward(ARGUMENTS_OF_FORWARD(bf16));
  else forward(ARGUMENTS_OF_FORWARD(float));
}

#define ARGUMENTS_OF_BACKWARD(T)                                                                            \
  context_panels, state_panels, leak, duration, pace, h0, start, z, s, h, grad, (T*)grad_encoded,           \
      (T*)grad_synapse, (T*)tanh_h, (T*)c, duration_sums, leak_sums, pace_sums, grad_h0, of_s, of_z, n, \
      threads

// The sums and grad_h0 must be 0.
EXPORT void KERNEL(nonlinear_backward)(
    int64_t is_bf16, const float* of_state, const float* of_context, const float* leak,
    const float* duration, const float* pace, const float* h0, const uint8_t* start, const float* z,
    const float* s, const float* h, const float* grad, void* grad_encoded, void* grad_synapse, void* tanh_h,
    void* c, float* duration_sums, float* leak_sums, float* pace_sums, float* grad_h0, float* of_s,
    float* of_z, float* state_panels, float* context_panels, int64_t rows, int64_t length, int64_t width,
    int64_t context, int64_t threads) {
  Sizes n{rows, length, width, context};
  pack(of_context, context, 1, 2 * width, context, parts_of(context, PANEL), PANEL, LANES, context,
       context_panels);
  pack(of_state, width, 1, context, width, parts_of(width, PANEL), PANEL, LANES, width, state_panels);
  if (is_bf16) backward(ARGUMENTS_OF_BACKWARD(bf16));
  else backward(ARGUMENTS_OF_BACKWARD(float));
}
