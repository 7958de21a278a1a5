// The liquid neuron over a sequence, forward and backward in one pass each.
//
// Work is split into rows × blocks of units. What a block adds to a sum over units or rows goes to its own
// place in `sums`; the caller adds these in order. So the result has the same bits on every run.
#include "relaxation.h"

// Units of a block: the synapse of a block is read in whole cache lines.
constexpr int64_t BLOCK = 64;
// How many events ahead the inputs are fetched: a step of 2·width is too long for the processor to foresee.
constexpr int64_t AHEAD = 4;

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
          __builtin_prefetch(s + AHEAD * 2 * width);
          __builtin_prefetch(s + AHEAD * 2 * width + width);
          Relaxation x = relaxation(load(s, n), load(leak + j, n), load(pace + j, n, 1.0f), duration[event]);
          Vec h = relaxed(x, load(s + width, n), begins ? Vec{} : load(state + j - first, n));
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
          __builtin_prefetch(s - AHEAD * 2 * width);
          __builtin_prefetch(s - AHEAD * 2 * width + width);
          __builtin_prefetch(grad + (event - AHEAD) * width + j);
          __builtin_prefetch(before + j - AHEAD * width);
          Vec pace_j = load(pace + j, n, 1.0f);
          Relaxation x = relaxation(load(s, n), load(leak + j, n), pace_j, time);
          Vec adjoint = load(grad + event * width + j, n) + load(carry + k, n);
          Vec held = begins ? Vec{} : load(before + j, n);
          RelaxationGrads to = gradients(x, load(s + width, n), pace_j, time, held, adjoint);
          store(carry + k, begins ? Vec{} : to.held, n);
          store(of_leak + k, load(of_leak + k, n) + to.leak, n);
          store(of_pace + k, load(of_pace + k, n) + to.pace, n);
          of_time += to.duration;
          T* out = grad_synapse + event * 2 * width + j;
          store(out, to.synapse, n);
          store(out + width, to.potential, n);
        }
        duration_sums[block * rows * length + event] = sum(of_time);
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
