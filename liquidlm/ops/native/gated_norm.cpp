// LayerNorm without bias of each row, times a gate, forward and backward in one pass each:
//
//     n = (x − mean)·rstd,   rstd = 1/√(mean of (x − mean)² + eps),   y = weight·n·silu(gate)
//     grad gate = grad y·weight·n·dsilu/dgate,   grad weight = Σ grad y·silu(gate)·n
//     grad x = rstd·(g − mean(g) − n·mean(g·n)),   g = weight·silu(gate)·grad y
//
// The backward pass computes silu again. What a piece adds to the gradient of the weight goes to its own place;
// the caller adds these in order. So the result has the same bits on every run.
#include "passes.h"

template <typename Gate, typename Out>
static void forward(const float* x, const Gate* gate, const float* weight, double eps, Out* out,
                    float* means, float* rstds, Sizes z) {
  int64_t width = z.width;
  for_rows(z, [&](int64_t, int64_t row) INLINED {
    const float* from = x + row * width;
    float mean = row_sum(width, [&](int64_t j, int64_t n) INLINED { return load(from + j, n); }) / width;
    float variance = row_sum(width, [&](int64_t j, int64_t n) INLINED {
                       Vec off = load(from + j, n) - mean;
                       return off * off;
                     }) / width;
    float rstd = 1.0f / __builtin_sqrtf(variance + (float)eps);
    for_vectors(width, [&](int64_t j, int64_t n) INLINED {
      Vec c = load(gate + row * width + j, n);
      Vec normed = (load(from + j, n) - mean) * rstd;
      store(out + row * width + j, normed * load(weight + j, n) * (c * sigmoid(c)), n);
    });
    means[row] = mean;
    rstds[row] = rstd;
  });
}

template <typename Gate, typename Out>
static void backward(const float* x, const Gate* gate, const float* weight, const float* means,
                     const float* rstds, const Out* grad, float* grad_x, Gate* grad_gate, float* weight_sums,
                     Sizes z) {
  int64_t width = z.width;
  for_rows(z, [&](int64_t piece, int64_t row) INLINED {
    float* of_weight = weight_sums + piece * width;
    bool begins = row == piece * z.piece();
    const float* from = x + row * width;
    const Out* to = grad + row * width;
    float mean = means[row], rstd = rstds[row];
    auto normed = [&](int64_t j, int64_t n) INLINED { return (load(from + j, n) - mean) * rstd; };
    Vec levels{}, slopes{};  // past the end of a row the gradient is 0
    for_vectors(width, [&](int64_t j, int64_t n) INLINED {
      Vec c = load(gate + row * width + j, n), s = sigmoid(c);
      Vec g = load(to + j, n) * load(weight + j, n), normed_j = normed(j, n);
      store(grad_gate + row * width + j, g * normed_j * silu_slope(c, s), n);
      g *= c * s;
      levels += g;
      slopes += g * normed_j;
    });
    float level = sum(levels) / width, slope = sum(slopes) / width;
    for_vectors(width, [&](int64_t j, int64_t n) INLINED {
      Vec c = load(gate + row * width + j, n), normed_j = normed(j, n);
      Vec g = load(to + j, n) * (c * sigmoid(c));
      Vec before = begins ? Vec{} : load(of_weight + j, n);
      store(of_weight + j, before + g * normed_j, n);
      store(grad_x + row * width + j, rstd * (g * load(weight + j, n) - level - normed_j * slope), n);
    });
  });
}

EXPORT void KERNEL(gated_norm_forward)(int64_t gate_bf16, int64_t out_bf16, const float* x, const void* gate,
                                       const float* weight, double eps, void* out, float* means,
                                       float* rstds, int64_t rows, int64_t width, int64_t threads) {
  auto run = [&](auto* gate, auto* out) {
    forward(x, gate, weight, eps, out, means, rstds, {rows, width, threads});
  };
  if (out_bf16) run((const bf16*)gate, (bf16*)out);
  else if (gate_bf16) run((const bf16*)gate, (float*)out);
  else run((const float*)gate, (float*)out);
}

EXPORT void KERNEL(gated_norm_backward)(int64_t gate_bf16, int64_t out_bf16, const float* x, const void* gate,
                                        const float* weight, const float* means, const float* rstds,
                                        const void* grad, float* grad_x, void* grad_gate,
                                        float* weight_sums, int64_t rows, int64_t width, int64_t threads) {
  auto run = [&](auto* gate, auto* grad, auto* grad_gate) {
    backward(x, gate, weight, means, rstds, grad, grad_x, grad_gate, weight_sums, {rows, width, threads});
  };
  if (out_bf16) run((const bf16*)gate, (const bf16*)grad, (bf16*)grad_gate);
  else if (gate_bf16) run((const bf16*)gate, (const float*)grad, (bf16*)grad_gate);
  else run((const float*)gate, (const float*)grad, (float*)grad_gate);
}
