// Vectors of float32 of the width that the instruction set has, and the functions of them that kernels need.
//
// The file is compiled once per instruction set (see build.py). GCC's and Clang's vector extensions turn the
// operators into the instructions of each. The errors are bounds in units in the last place (ulp) of the
// exact result; tests/test_lanes.py checks them over the whole range.
#pragma once

#include <stdint.h>

#define CONCAT_(a, b) a##_##b
#define CONCAT(a, b) CONCAT_(a, b)
// The exported name of a kernel: one per instruction set, such as liquid_relax_forward_avx2.
#define KERNEL(name) CONCAT(name, LIQUIDLM_SET)
#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif
#define INLINE static inline __attribute__((always_inline))
// After the parameters of a lambda: its body is part of the loop that calls it.
#define INLINED __attribute__((always_inline))
// A function that is called: a copy of it in each place would only cost the compiler's time.
#define CALLED __attribute__((noinline, unused))

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
typedef uint16_t bf16;

INLINE Vec all(float x) { return Vec{} + x; }
INLINE Bits bits(Vec x) { return (Bits)x; }

// The first `count` numbers at p, `rest` in the other lanes. bf16 is the upper half of a float32.
// Whole vectors have a path of their own. That of a part is a call: as inline code it takes most of the time of
// the compiler.
static CALLED Vec load_part(const float* p, int64_t count, float rest) {
  Vec part = all(rest);
  __builtin_memcpy(&part, p, count * sizeof *p);
  return part;
}
static CALLED Halves load_part(const bf16* p, int64_t count) {
  Halves part{};
  __builtin_memcpy(&part, p, count * sizeof *p);
  return part;
}
template <typename T, typename V>
static CALLED void store_part(T* p, V part, int64_t count) {
  __builtin_memcpy(p, &part, count * sizeof *p);
}
INLINE bool whole(int64_t count) { return __builtin_expect(count >= LANES, 1); }

INLINE Vec load(const float* p, int64_t count = LANES, float rest = 0.0f) {
  if (!whole(count)) return load_part(p, count, rest);
  Vec x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
INLINE Vec widened(Halves x) { return (Vec)(__builtin_convertvector(x, Bits) << 16); }
INLINE Vec load(const bf16* p, int64_t count = LANES) {
  if (!whole(count)) return widened(load_part(p, count));
  Halves x;
  __builtin_memcpy(&x, p, sizeof x);
  return widened(x);
}

INLINE void store(float* p, Vec x, int64_t count = LANES) {
  if (!whole(count)) return store_part(p, x, count);
  __builtin_memcpy(p, &x, sizeof x);
}
// Rounds to the nearest bf16, to the even one halfway, as torch does. NaN stays NaN.
INLINE void store(bf16* p, Vec x, int64_t count = LANES) {
  Bits b = bits(x);
  b += 0x7fff + ((b >> 16) & 1);
  b = (x == x) ? b : Bits{} + 0x7fc00000u;
  Halves y = __builtin_convertvector(b >> 16, Halves);
  if (!whole(count)) return store_part(p, y, count);
  __builtin_memcpy(p, &y, sizeof y);
}

// first, first + 1, …
INLINE Ints numbered(int64_t first) {
  Ints x;
#pragma GCC unroll 16
  for (int l = 0; l < LANES; l++) x[l] = l;
  return x + (int32_t)first;
}
INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
INLINE Vec abs(Vec x) { return (Vec)(bits(x) & 0x7fffffffu); }

// The sum of all lanes, in a fixed order: lane i and lane i + half, until one is left.
INLINE float sum(Vec x) {
  typedef float Four __attribute__((vector_size(16)));
  Four y[LANES / 4];
  __builtin_memcpy(y, &x, sizeof y);
#pragma GCC unroll 2
  for (int half = LANES / 8; half > 0; half /= 2)
#pragma GCC unroll 2
    for (int i = 0; i < half; i++) y[i] += y[i + half];
  return (y[0][0] + y[0][2]) + (y[0][1] + y[0][3]);
}

// x = n ln 2 + r with |r| ≤ ln 2 / 2; returns r and writes 2ⁿ. For x in −87…88.
INLINE Vec reduced(Vec x, Vec& power) {
  const float magic = 12582912.0f;  // 1.5·2²³: adding it rounds to an integer
  Vec rounded = x * 1.44269504088896341f + magic;
  Vec n = rounded - magic;
  power = (Vec)((bits(rounded) << 23) + 0x3f800000u);
  return (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
}

// eʳ − 1 for |r| ≤ ln 2 / 2.
INLINE Vec expm1_small(Vec r) {
  Vec p = all(1.9841270e-4f);
  p = p * r + 1.3888889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  return p * (r * r) + r;
}

// eˣ within 1.1 ulp; 0 below −87 (float32 has no normal number there) and NaN for NaN. Not for x > 88.
INLINE Vec exp(Vec x) {
  Vec power, r = reduced(max(x, all(-87.0f)), power);
  Vec y = expm1_small(r) * power + power;
  y = x < -87.0f ? Vec{} : y;
  return x == x ? y : x;
}

// eˣ − 1 within 1.8 ulp, also for x near 0. For x ≤ 88.
INLINE Vec expm1(Vec x) {
  Vec power, r = reduced(max(x, all(-87.0f)), power);
  Vec y = expm1_small(r) * power + (power - 1.0f);
  return x == x ? y : x;
}

// ln(1 + x) within 2 ulp for x in 0…1, by atanh: s = x/(2 + x), ln(1 + x) = 2(s + s³/3 + s⁵/5 + …).
INLINE Vec log1p_unit(Vec x) {
  Vec s = x / (x + 2.0f), t = s * s;
  Vec p = all(1.0f / 15);
  p = p * t + 1.0f / 13;
  p = p * t + 1.0f / 11;
  p = p * t + 1.0f / 9;
  p = p * t + 1.0f / 7;
  p = p * t + 1.0f / 5;
  p = p * t + 1.0f / 3;
  return 2.0f * (p * t * s + s);
}

// ln(1 + eˣ) within 2.7 ulp from e = e^{−|x|}; 0 below −87.
INLINE Vec softplus(Vec x, Vec e) { return max(x, Vec{}) + log1p_unit(e); }

// 1/(1 + e^{−x}) within 2.7 ulp from e = e^{−|x|}; 0 below −87.
INLINE Vec sigmoid(Vec x, Vec e) {
  Vec y = 1.0f / (1.0f + e);
  return x < 0.0f ? e * y : y;
}
INLINE Vec sigmoid(Vec x) { return sigmoid(x, exp(-abs(x))); }

// d silu/dx from s = sigmoid(x), for silu(x) = x·s.
INLINE Vec silu_slope(Vec x, Vec s) { return s * (1.0f + x * (1.0f - s)); }

// tanh x within 3 ulp: from e^{−2|x|} − 1, which is exact near 0.
INLINE Vec tanh(Vec x) {
  Vec q = expm1(-2.0f * abs(x));
  Vec y = -q / (2.0f + q);
  return x < 0.0f ? -y : y;
}
