// The product of a gated MLP, forward and backward in one pass each:
//
//     y = silu(gate)·up,   silu(x) = x·s,   s = 1/(1 + e⁻ˣ),   dsilu/dx = s·(1 + x·(1 − s))
//
// The backward pass computes s again: it reads gate and up, and nothing else is kept.
#include "passes.h"

// Numbers per task.
constexpr int64_t PIECE = 4096;

template <typename T>
static void forward(const T* gate, const T* up, T* out, int64_t count, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (count > PIECE)
  for (int64_t first = 0; first < count; first += PIECE) {
    int64_t last = first + PIECE < count ? first + PIECE : count;
    for_vectors(last - first, [&](int64_t j, int64_t n) INLINED {
      int64_t i = first + j;
      Vec x = load(gate + i, n);
      store(out + i, x * sigmoid(x) * load(up + i, n), n);
    });
  }
}

template <typename T>
static void backward(const T* gate, const T* up, const T* grad, T* grad_gate, T* grad_up, int64_t count,
                     int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (count > PIECE)
  for (int64_t first = 0; first < count; first += PIECE) {
    int64_t last = first + PIECE < count ? first + PIECE : count;
    for_vectors(last - first, [&](int64_t j, int64_t n) INLINED {
      int64_t i = first + j;
      Vec x = load(gate + i, n), s = sigmoid(x), g = load(grad + i, n);
      store(grad_gate + i, g * load(up + i, n) * silu_slope(x, s), n);
      store(grad_up + i, g * x * s, n);
    });
  }
}

EXPORT void KERNEL(swiglu_forward)(int64_t is_bf16, const void* gate, const void* up, void* out,
                                   int64_t count, int64_t threads) {
  if (is_bf16)
    forward((const bf16*)gate, (const bf16*)up, (bf16*)out, count, threads);
  else
    forward((const float*)gate, (const float*)up, (float*)out, count, threads);
}

EXPORT void KERNEL(swiglu_backward)(int64_t is_bf16, const void* gate, const void* up, const void* grad,
                                    void* grad_gate, void* grad_up, int64_t count, int64_t threads) {
  if (is_bf16)
    backward((const bf16*)gate, (const bf16*)up, (const bf16*)grad, (bf16*)grad_gate, (bf16*)grad_up, count,
             threads);
  else
    backward((const float*)gate, (const float*)up, (const float*)grad, (float*)grad_gate, (float*)grad_up,
             count, threads);
}
