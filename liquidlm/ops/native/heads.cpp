// Queries, keys and values of the matrix memory from one matrix product, forward and backward in one pass each:
//
//     s = silu(x);   for queries and keys  y = s/m,  m = max(‖s‖, ε);   for values  y = s
//     grad s = (g − y (g·y))/m,  and g/m where ‖s‖ ≤ ε;                 for values  grad s = g
//
// x has per event the N heads of the query, then W·N of keys, then W·N of values. The forward pass keeps 1/m;
// the backward pass computes s again.
#include "passes.h"

constexpr float EPSILON = 1e-12f;

namespace {

struct Heads {
  int64_t events, heads, writes, width, threads;

  int64_t normed() const { return (1 + writes) * heads; }
  int64_t values() const { return writes * heads * width; }
  int64_t of_event() const { return normed() * width + values(); }
  // Head h of the queries and keys of an event.
  template <typename T>
  T* normed(T* q, T* k, int64_t event, int64_t h) const {
    return h < heads ? q + (event * heads + h) * width : k + (event * writes * heads + h - heads) * width;
  }
};

INLINE Vec silu(Vec x) { return x * sigmoid(x); }

template <typename T>
static void forward(const T* x, T* q, T* k, T* v, float* scales, const Heads& z) {
  for_rows({z.events, z.of_event(), z.threads}, [&](int64_t, int64_t event) INLINED {
    const T* from = x + event * z.of_event();
    for (int64_t h = 0; h < z.normed(); h++, from += z.width) {
      T* to = z.normed(q, k, event, h);
      float norm = __builtin_sqrtf(row_sum(z.width, [&](int64_t j, int64_t n) INLINED {
        Vec s = silu(load(from + j, n));
        return s * s;
      }));
      float scale = 1.0f / (norm < EPSILON ? EPSILON : norm);
      for_vectors(z.width, [&](int64_t j, int64_t n) INLINED { store(to + j, silu(load(from + j, n)) * scale, n); });
      scales[event * z.normed() + h] = scale;
    }
    T* to = v + event * z.values();
    for_vectors(z.values(), [&](int64_t j, int64_t n) INLINED { store(to + j, silu(load(from + j, n)), n); });
  });
}

template <typename T>
static void backward(const T* x, const float* scales, const T* q_grad, const T* k_grad, const T* v_grad,
                     T* x_grad, const Heads& z) {
  for_rows({z.events, z.of_event(), z.threads}, [&](int64_t, int64_t event) INLINED {
    const T* from = x + event * z.of_event();
    T* to = x_grad + event * z.of_event();
    for (int64_t h = 0; h < z.normed(); h++, from += z.width, to += z.width) {
      const T* grad = z.normed(q_grad, k_grad, event, h);
      float scale = scales[event * z.normed() + h];
      float along = row_sum(z.width, [&](int64_t j, int64_t n) INLINED {
        return load(grad + j, n) * (silu(load(from + j, n)) * scale);
      });
      if (scale >= 1.0f / EPSILON) along = 0.0f;
      for_vectors(z.width, [&](int64_t j, int64_t n) INLINED {
        Vec x_j = load(from + j, n), s = sigmoid(x_j);
        Vec of_s = (load(grad + j, n) - x_j * s * scale * along) * scale;
        store(to + j, of_s * silu_slope(x_j, s), n);
      });
    }
    const T* grad = v_grad + event * z.values();
    for_vectors(z.values(), [&](int64_t j, int64_t n) INLINED {
      Vec x_j = load(from + j, n);
      store(to + j, load(grad + j, n) * silu_slope(x_j, sigmoid(x_j)), n);
    });
  });
}

}  // namespace

EXPORT void KERNEL(heads_forward)(int64_t is_bf16, const void* x, void* q, void* k, void* v, float* scales,
                                  int64_t events, int64_t heads, int64_t writes, int64_t width,
                                  int64_t threads) {
  Heads z{events, heads, writes, width, threads};
  if (is_bf16)
    forward((const bf16*)x, (bf16*)q, (bf16*)k, (bf16*)v, scales, z);
  else
    forward((const float*)x, (float*)q, (float*)k, (float*)v, scales, z);
}

EXPORT void KERNEL(heads_backward)(int64_t is_bf16, const void* x, const float* scales, const void* q_grad,
                                   const void* k_grad, const void* v_grad, void* x_grad, int64_t events,
                                   int64_t heads, int64_t writes, int64_t width, int64_t threads) {
  Heads z{events, heads, writes, width, threads};
  if (is_bf16)
    backward((const bf16*)x, scales, (const bf16*)q_grad, (const bf16*)k_grad, (const bf16*)v_grad,
             (bf16*)x_grad, z);
  else
    backward((const float*)x, scales, (const float*)q_grad, (const float*)k_grad, (const float*)v_grad,
             (float*)x_grad, z);
}
