// The next token of each row, drawn from its logits:
//
//     p = e^{(logits − max)/temperature}
//     keep the p ≥ t:  t is the largest with at least top_k of them, then with at least top_p of their sum
//     token = the first whose sum of kept p, in the order of the ids, is over chance · (sum of all kept p)
//
// At temperature 0 the token is the first with the largest logit. Each row has its own temperature, top_k and top_p.
//
// No sorting: the bits of positive floats have the order of the floats, so t is found by halving, in 30 passes.
#include "lanes.h"

// The sum of the p ≥ t, or their number.
static float kept(const float* p, int64_t size, float t, bool number) {
  Vec sums[4] = {};
  for (int64_t j = 0; j < size; j += 4 * LANES)
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      Vec x = load(p + j + k * LANES);
      sums[k] += x >= t ? (number ? all(1.0f) : x) : Vec{};
    }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// The largest t from `least` up to 1 at which at least `need` is kept.
static float threshold(const float* p, int64_t size, float least, float need, bool number) {
  uint32_t low, high = 0x3f800001u;  // after 1.0
  __builtin_memcpy(&low, &least, sizeof low);
  while (high - low > 1) {
    uint32_t middle = low + (high - low) / 2;
    float t;
    __builtin_memcpy(&t, &middle, sizeof t);
    (kept(p, size, t, number) >= need ? low : high) = middle;
  }
  __builtin_memcpy(&least, &low, sizeof least);
  return least;
}

// The first of the logits that equals `top`; −1 if none does.
static int64_t first(const float* logits, int64_t count, float top) {
  for (int64_t j = 0; j < count; j++)
    if (logits[j] == top) return j;
  return -1;
}

// −1 if the logits are not finite, but for −∞.
static int64_t draw(const float* logits, float* p, int64_t count, int64_t size, float temperature,
                    int64_t top_k, double top_p, double chance) {
  Vec highest = all(-__builtin_inff());
  for (int64_t j = 0; j < count; j += LANES)
    highest = max(load(logits + j, count - j, -__builtin_inff()), highest);
  float top = highest[0];
  for (int k = 1; k < LANES; k++) top = highest[k] > top ? highest[k] : top;
  for (int64_t j = 0; j < size; j += LANES) {
    Vec x = j < count ? load(logits + j, count - j, -__builtin_inff()) : all(-__builtin_inff());
    store(p + j, exp((x - top) / (temperature > 0.0f ? temperature : 1.0f)));
  }
  float whole = kept(p, size, 0.0f, false), t = 0.0f;
  Vec wrong{};
  for (int64_t j = 0; j < size; j += LANES) wrong += load(p + j) * 0.0f;
  if (!(whole >= 1.0f) || sum(wrong) != 0.0f) return -1;
  if (temperature == 0.0f) return first(logits, count, top);
  if (top_k > 0 && top_k < count) t = threshold(p, size, t, top_k, true);
  if (top_p < 1.0) t = threshold(p, size, t, top_p * kept(p, size, t, false), false);
  if (t == 0.0f) t = 1e-45f;  // never a token of probability 0
  double total = 0.0, passed = 0.0;
  for (int64_t j = 0; j < count; j++) total += p[j] >= t ? p[j] : 0.0f;
  int64_t last = -1;
  for (int64_t j = 0; j < count; j++)
    if (p[j] >= t) {
      last = j, passed += p[j];
      if (passed > chance * total) break;
    }
  return last;
}

// `work` holds (rows, vocabulary rounded up to 64) numbers.
EXPORT void KERNEL(sample)(const float* logits, const double* chance, int64_t* tokens, float* work,
                              const float* temperature, const int64_t* top_k, const double* top_p,
                              int64_t rows, int64_t vocabulary, int64_t threads) {
  int64_t size = (vocabulary + 63) / 64 * 64;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t row = 0; row < rows; row++)
    tokens[row] = draw(logits + row * vocabulary, work + row * size, vocabulary, size, temperature[row],
                       top_k[row], top_p[row], chance[row]);
}
