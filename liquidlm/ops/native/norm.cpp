// LayerNorm without bias of each row, and the same of a sum of two rows, forward and backward in one pass each:
//
//     z = x + y,   y' = weight·(z − mean)·rstd,   rstd = 1/√(mean of (z − mean)² + eps)
//     grad z = rstd·(g − mean(g) − n·mean(g·n)) + (gradient of z itself),   g = weight·grad y',   n = (z − mean)·rstd
//
// A row is read from memory once and then from the cache. What a piece adds to the gradient of the weight goes to
// its own place; the caller adds these in order. So the result has the same bits on every run.
#include "passes.h"

// z = x + y for one row.
template <typename Y>
static void add(const float* x, const Y* y, float* z, int64_t width) {
  for_vectors(width, [&](int64_t j, int64_t n) INLINED { store(z + j, load(x + j, n) + load(y + j, n), n); });
}

// z_of(row) is where a row of z begins.
template <typename ZOf, typename Out>
INLINE void forward(ZOf z_of, const float* weight, double eps, Out* out, float* means, float* rstds, Sizes z) {
  int64_t width = z.width;
  for_rows(z, [&](int64_t, int64_t row) INLINED {
    auto* from = z_of(row);
    float mean = row_sum(width, [&](int64_t j, int64_t n) INLINED { return load(from + j, n); }) / width;
    float variance = row_sum(width, [&](int64_t j, int64_t n) INLINED {
                       Vec off = load(from + j, n) - mean;
                       return off * off;
                     }) / width;
    float rstd = 1.0f / __builtin_sqrtf(variance + (float)eps);
    for_vectors(width, [&](int64_t j, int64_t n) INLINED {
      store(out + row * width + j, (load(from + j, n) - mean) * rstd * load(weight + j, n), n);
    });
    means[row] = mean;
    rstds[row] = rstd;
  });
}

// grad_total, the gradient of z itself, may be null, and so may grad_y, which is grad_z rounded to bf16.
template <typename X, typename Out>
static void backward(const X* x, const float* weight, const float* means, const float* rstds,
                     const Out* grad, const float* grad_total, X* grad_z, bf16* grad_y, float* weight_sums,
                     Sizes z) {
  int64_t width = z.width;
  for_rows(z, [&](int64_t piece, int64_t row) INLINED {
    float* of_weight = weight_sums + piece * width;
    bool begins = row == piece * z.piece();
    const X* from = x + row * width;
    const Out* g = grad + row * width;
    float mean = means[row], rstd = rstds[row];
    float level = row_sum(width, [&](int64_t j, int64_t n) INLINED {
                    return load(g + j, n) * load(weight + j, n);
                  }) / width;
    float slope = row_sum(width, [&](int64_t j, int64_t n) INLINED {
                    return load(g + j, n) * load(weight + j, n) * ((load(from + j, n) - mean) * rstd);
                  }) / width;
    for_vectors(width, [&](int64_t j, int64_t n) INLINED {
      Vec normed = (load(from + j, n) - mean) * rstd, g_j = load(g + j, n);
      Vec before = begins ? Vec{} : load(of_weight + j, n);
      store(of_weight + j, before + g_j * normed, n);
      Vec result = rstd * (g_j * load(weight + j, n) - level - normed * slope);
      if (grad_total) result += load(grad_total + row * width + j, n);
      store(grad_z + row * width + j, result, n);
      if (grad_y) store(grad_y + row * width + j, result, n);
    });
  });
}

EXPORT int64_t KERNEL(norm_pieces)(int64_t rows, int64_t width) { return Sizes{rows, width, 1}.pieces(); }

// y and total may be null: then z is x. With y, x is in float32. The result is in the type of x or in bf16.
EXPORT void KERNEL(norm_forward)(int64_t x_bf16, int64_t y_bf16, int64_t out_bf16, const void* x,
                                 const void* y, const float* weight, double eps, float* total, void* out,
                                 float* means, float* rstds, int64_t rows, int64_t width, int64_t threads) {
  auto sum_of = [=](int64_t row) {
    const float* from = (const float*)x + row * width;
    float* to = total + row * width;
    if (!y) return from;
    if (y_bf16) add(from, (const bf16*)y + row * width, to, width);
    else add(from, (const float*)y + row * width, to, width);
    return (const float*)to;
  };
  auto low = [=](int64_t row) { return (const bf16*)x + row * width; };
  Sizes z{rows, width, threads};
  if (x_bf16) forward(low, weight, eps, (bf16*)out, means, rstds, z);
  else if (out_bf16) forward(sum_of, weight, eps, (bf16*)out, means, rstds, z);
  else forward(sum_of, weight, eps, (float*)out, means, rstds, z);
}

EXPORT void KERNEL(norm_backward)(int64_t x_bf16, int64_t out_bf16, const void* x, const float* weight,
                                  const float* means, const float* rstds, const void* grad,
                                  const float* grad_total, void* grad_z, void* grad_y, float* weight_sums,
                                  int64_t rows, int64_t width, int64_t threads) {
  auto run = [&](auto* x, auto* grad, auto* grad_z) {
    backward(x, weight, means, rstds, grad, grad_total, grad_z, (bf16*)grad_y, weight_sums,
             {rows, width, threads});
  };
  if (x_bf16) run((const bf16*)x, (const bf16*)grad, (bf16*)grad_z);
  else if (out_bf16) run((const float*)x, (const bf16*)grad, (float*)grad_z);
  else run((const float*)x, (const float*)grad, (float*)grad_z);
}
