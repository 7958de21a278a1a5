// Products of a few rows with the packed weights of a block of 2·LANES outputs, its `low` and its `high` vector.
//
// Two inputs come after the other two; an odd last input has an input of zeros beside it. The numbers are float32,
// bf16 or int8; an int8 times 2²⁴ times the scale of its output is the weight. They are widened to float32 in
// registers, once for all rows. A sum is in float32, in the order of the inputs: it is the same to the bit, however
// many rows there are.
#pragma once

#include "lanes.h"

// Rows of a tile: so many sums of two vectors stay in registers.
#if defined(__AVX512F__)
constexpr int TILE = 8;
#else
constexpr int TILE = 4;
#endif

// The weights of two inputs: w[input][low, high]. In float32 they lie in this order. A word of 32 bits has both
// inputs of one output in bf16, the first in its lower half; in int8 it has low and high of both inputs.
INLINE Bits words(const void* p) {
  Bits x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
// A byte stays in the highest place: 2²⁴ times its number, which the scale takes back.
INLINE Vec byte(Bits x, int place) {
  Bits high = x << (24 - 8 * place);
  return __builtin_convertvector((Ints)(place ? high & 0xff000000u : high), Vec);
}
INLINE void widen(const float* p, Vec (&w)[2][2]) {
#pragma GCC unroll 8
  for (int i = 0; i < 4; i++) w[i / 2][i % 2] = load(p + i * LANES);
}
INLINE void widen(const bf16* p, Vec (&w)[2][2]) {
#pragma GCC unroll 8
  for (int half = 0; half < 2; half++) {
    Bits x = words(p + half * 2 * LANES);
    w[0][half] = (Vec)(x << 16), w[1][half] = (Vec)(x & 0xffff0000u);
  }
}
INLINE void widen(const int8_t* p, Vec (&w)[2][2]) {
#pragma GCC unroll 8
  for (int i = 0; i < 4; i++) w[i / 2][i % 2] = byte(words(p), i);
}

template <int R>
INLINE void add(Vec (&sums)[R][2], const float* x, int64_t stride, const Vec (&w)[2]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int half = 0; half < 2; half++) sums[r][half] += x[r * stride] * w[half];
}

template <int R, int G>
INLINE void store_sums(const Vec (&sums)[G][R][2], float* y) {
#pragma GCC unroll 8
  for (int g = 0; g < G; g++)
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int half = 0; half < 2; half++) store(y + ((g * R + r) * 2 + half) * LANES, sums[g][r][half]);
}

// The sums of G blocks for R rows, to y (G, R, 2·LANES). A sum waits for its last product; with few rows, the sums of
// several blocks fill that time.
template <int R, int G, typename T>
static void tile(const void* weight, int64_t block_bytes, const float* x, int64_t stride, int64_t in, float* y) {
  Vec sums[G][R][2] = {}, w[2][2];
  const char* p = (const char*)weight;
  int64_t i = 0;
  for (; i + 2 <= in; i += 2, p += 4 * LANES * sizeof(T))
#pragma GCC unroll 8
    for (int g = 0; g < G; g++) {
      widen((const T*)(p + g * block_bytes), w);
      add<R>(sums[g], x + i, stride, w[0]);
      add<R>(sums[g], x + i + 1, stride, w[1]);
    }
  if (i < in)
#pragma GCC unroll 8
    for (int g = 0; g < G; g++) {
      widen((const T*)(p + g * block_bytes), w);
      add<R>(sums[g], x + i, stride, w[0]);
    }
  store_sums<R, G>(sums, y);
}

typedef void (*Tile)(const void*, int64_t, const float*, int64_t, int64_t, float*);
// How many blocks go together for one row and for two.
INLINE int64_t group_of(int64_t rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
#define TILES_4(F, T) F<1, 1, T>, F<2, 1, T>, F<3, 1, T>, F<4, 1, T>
#if defined(__AVX512F__)
#define TILES(F, T) {TILES_4(F, T), F<5, 1, T>, F<6, 1, T>, F<7, 1, T>, F<8, 1, T>}
#else
#define TILES(F, T) {TILES_4(F, T)}
#endif
#define GROUPS(F, T) {F<1, 4, T>, F<2, 2, T>}
template <typename T>
INLINE Tile tile_of(int64_t rows) {
  static const Tile all[] = TILES(tile, T);
  return all[rows - 1];
}
template <typename T>
INLINE Tile tile_of(int64_t rows, int64_t group) {
  static const Tile grouped[] = GROUPS(tile, T);
  return group > 1 ? grouped[rows - 1] : tile_of<T>(rows);
}
