// The liquid neuron over a sequence, forward and backward in one pass each:
//
//     λ = leak + f,   x = −λ·pace·duration,   q = eˣ − 1,   decay = 1 + q  (0 where a document starts)
//     h = decay·h_before − q·(f/λ)·A,         f = softplus(synapse, first half),   A = its second half
//
// Work is split into rows × blocks of units. What a block adds to a sum over units or rows goes to its own
// place in `sums`; the caller adds these in order. So the result has the same bits on every run.
#include "lanes.h"

// Units of a block: the synapse of a block is read in whole cache lines.
constexpr int64_t BLOCK = 64;

struct Relaxation {
  Vec f, slope, rate, share, q;  // slope: df/dsynapse; share: f/λ
};

INLINE Relaxation relaxation(Vec synapse, Vec leak, Vec pace, float duration) {
  Vec e = exp(-abs(synapse));
  Vec f = softplus(synapse, e), rate = f + leak;
  return {f, sigmoid(synapse, e), rate, f / rate, expm1(-rate * pace * duration)};
}

template <typename T>
static void forward(const T* synapse, const float* leak, const float* duration, const float* pace,
                    const float* h0, const uint8_t* start, float* out, int64_t rows, int64_t length,
                    int64_t width, int64_t threads) {
  int64_t blocks = (width + BLOCK - 1) / BLOCK;
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (int64_t b = 0; b < rows; b++)
    for (int64_t block = 0; block < blocks; block++) {
      int64_t first = block * BLOCK, last = first + BLOCK < width ? first + BLOCK : width;
      float state[BLOCK];
      for (int64_t j = first; j < last; j++) state[j - first] = h0[b * width + j];
      for (int64_t i = 0; i < length; i++) {
        int64_t event = b * length + i;
        bool begins = start && start[event];
        for (int64_t j = first; j < last; j += LANES) {
          int64_t n = last - j;
          const T* s = synapse + event * 2 * width + j;
          Relaxation x = relaxation(load(s, n), load(leak + j, n), load(pace + j, n, 1.0f), duration[event]);
          Vec h = load(state + j - first, n);
          h = begins ? Vec{} : (x.q + 1.0f) * h;
          h -= x.q * x.share * load(s + width, n);
          store(state + j - first, h, n);
          store(out + event * width + j, h, n);
        }
      }
    }
}

template <typename T>
static void backward(const T* synapse, const float* leak, const float* duration, const float* pace,
                     const float* h0, const uint8_t* start, const float* h, const float* grad,
                     T* grad_synapse, float* duration_sums, float* leak_sums, float* pace_sums,
                     float* grad_h0, int64_t rows, int64_t length, int64_t width, int64_t threads) {
  int64_t blocks = (width + BLOCK - 1) / BLOCK;
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (int64_t b = 0; b < rows; b++)
    for (int64_t block = 0; block < blocks; block++) {
      int64_t first = block * BLOCK, last = first + BLOCK < width ? first + BLOCK : width;
      float carry[BLOCK] = {}, of_leak[BLOCK] = {}, of_pace[BLOCK] = {};
      for (int64_t i = length - 1; i >= 0; i--) {
        int64_t event = b * length + i;
        bool begins = start && start[event];
        float time = duration[event];
        const float* before = i ? h + (event - 1) * width : h0 + b * width;
        Vec of_time{};
        for (int64_t j = first; j < last; j += LANES) {
          int64_t n = last - j, k = j - first;
          const T* s = synapse + event * 2 * width + j;
          Vec leak_j = load(leak + j, n), pace_j = load(pace + j, n, 1.0f), potential = load(s + width, n);
          Relaxation x = relaxation(load(s, n), leak_j, pace_j, time);
          Vec adjoint = load(grad + event * width + j, n) + load(carry + k, n);
          Vec held = begins ? Vec{} : load(before + j, n);
          store(carry + k, begins ? Vec{} : (x.q + 1.0f) * adjoint, n);
          Vec by_x = adjoint * (held - x.share * potential) * (x.q + 1.0f);
          // Nothing passes an infinite gap, and 0·∞ is not 0.
          Vec by_xt = x.q == -1.0f ? Vec{} : by_x * time;
          Vec by_share = -adjoint * x.q * potential / x.rate;  // over λ
          Vec by_rate = -by_xt * pace_j - by_share * x.share;
          of_time += by_x * x.rate * pace_j;
          store(of_leak + k, load(of_leak + k, n) + by_rate, n);
          store(of_pace + k, load(of_pace + k, n) - by_xt * x.rate, n);
          T* to = grad_synapse + event * 2 * width + j;
          store(to, (by_rate + by_share) * x.slope, n);
          store(to + width, -adjoint * x.q * x.share, n);
        }
        duration_sums[block * rows * length + event] = -sum(of_time);
      }
      for (int64_t j = first; j < last; j++) {
        leak_sums[b * width + j] = of_leak[j - first];
        pace_sums[b * width + j] = of_pace[j - first];
        grad_h0[b * width + j] = carry[j - first];
      }
    }
}

EXPORT int64_t KERNEL(relax_blocks)(int64_t width) { return (width + BLOCK - 1) / BLOCK; }

EXPORT void KERNEL(relax_forward)(int64_t is_bf16, const void* synapse, const float* leak,
                                  const float* duration, const float* pace, const float* h0,
                                  const uint8_t* start, float* out, int64_t rows, int64_t length,
                                  int64_t width, int64_t threads) {
  if (is_bf16)
    forward((const bf16*)synapse, leak, duration, pace, h0, start, out, rows, length, width, threads);
  else
    forward((const float*)synapse, leak, duration, pace, h0, start, out, rows, length, width, threads);
}

EXPORT void KERNEL(relax_backward)(int64_t is_bf16, const void* synapse, const float* leak,
                                   const float* duration, const float* pace, const float* h0,
                                   const uint8_t* start, const float* h, const float* grad,
                                   void* grad_synapse, float* duration_sums, float* leak_sums,
                                   float* pace_sums, float* grad_h0, int64_t rows, int64_t length,
                                   int64_t width, int64_t threads) {
  if (is_bf16)
    backward((const bf16*)synapse, leak, duration, pace, h0, start, h, grad, (bf16*)grad_synapse,
             duration_sums, leak_sums, pace_sums, grad_h0, rows, length, width, threads);
  else
    backward((const float*)synapse, leak, duration, pace, h0, start, h, grad, (float*)grad_synapse,
             duration_sums, leak_sums, pace_sums, grad_h0, rows, length, width, threads);
}
