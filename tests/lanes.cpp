// Each function of lanes.h over arrays, for tests/test_lanes.py.
#include "lanes.h"

#define OVER(name, expression)                                                        \
  EXPORT void KERNEL(name)(const float* input, float* output, int64_t count) {        \
    for (int64_t i = 0; i < count; i += LANES) {                                      \
      Vec x = load(input + i, count - i);                                             \
      store(output + i, expression, count - i);                                       \
    }                                                                                 \
  }

OVER(exp, exp(x))
OVER(expm1, expm1(x))
OVER(log1p_unit, log1p_unit(x))
OVER(softplus, softplus(x, exp(-abs(x))))
OVER(sigmoid, sigmoid(x))
OVER(tanh, tanh(x))
OVER(abs, abs(x))
OVER(at_least_zero, max(x, Vec{}))
OVER(at_most_zero, min(x, Vec{}))
OVER(sums, Vec{} + sum(x))

EXPORT void KERNEL(to_bf16)(const float* input, bf16* output, int64_t count) {
  for (int64_t i = 0; i < count; i += LANES) store(output + i, load(input + i, count - i), count - i);
}

EXPORT void KERNEL(from_bf16)(const bf16* input, float* output, int64_t count) {
  for (int64_t i = 0; i < count; i += LANES) store(output + i, load(input + i, count - i), count - i);
}

EXPORT int64_t KERNEL(lanes)() { return LANES; }
