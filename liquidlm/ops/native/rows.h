// Products of a few rows with a packed matrix: y (rows × out) = x (rows × in) · W.
//
// W is read once, straight through: in blocks of 2·LANES outputs (its `low` and its `high` vector), and in a
// block two inputs after the other two; an odd last input has an input of zeros beside it. The numbers are
// float32, bf16 or int8; an int8 times 2²⁴ times the scale of its output is the weight. They are widened to float32 in
// registers, once for all rows of a tile. Sums are in float32, in a fixed order.
#pragma once

#include "lanes.h"

// Rows of a tile: so many sums of two vectors stay in registers.
#if defined(__AVX512F__)
constexpr int TILE = 8;
#else
constexpr int TILE = 4;
#endif

// The fields are those of `Matrix` in step.py.
struct Matrix {
  const void* weight;  // (blocks, in/2, …): see `widen`
  const float* scale;  // (blocks, 2, LANES), or null
  const float* bias;   // (blocks, 2, LANES)
  int64_t type, in, out;
};

// The weights of two inputs: w[input][low, high]. In float32 they lie in this order. A word of 32 bits has low
// and high of one lane in bf16, or of both inputs in int8.
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
  for (int i = 0; i < 4; i++) w[i / 2][i % 2] = load(p + i * LANES);
}
INLINE void widen(const bf16* p, Vec (&w)[2][2]) {
  for (int i = 0; i < 2; i++) {
    Bits x = words(p + i * 2 * LANES);
    w[i][0] = (Vec)(x << 16), w[i][1] = (Vec)(x & 0xffff0000u);
  }
}
INLINE void widen(const int8_t* p, Vec (&w)[2][2]) {
  for (int i = 0; i < 4; i++) w[i / 2][i % 2] = byte(words(p), i);
}

template <int R>
INLINE void add(Vec (&sums)[R][2], const float* x, int64_t stride, const Vec (&w)[2]) {
  for (int r = 0; r < R; r++)
    for (int half = 0; half < 2; half++) sums[r][half] += x[r * stride] * w[half];
}

// The sums of one block for R rows, to y (R, 2·LANES). Few rows have several sums per output, which are added
// at the end: a sum alone would wait for itself.
template <int R, typename T>
static void tile(const void* weight, const float* x, int64_t stride, int64_t in, float* y) {
  constexpr int PARTS = R == 1 ? 4 : R == 2 ? 2 : 1;
  const T* p = (const T*)weight;
  Vec sums[PARTS][R][2], w[2][2];
  for (auto& part : sums)
    for (auto& row : part) row[0] = row[1] = Vec{};
  int64_t i = 0;
  for (; i + 4 <= in; i += 4)
    for (int j = 0; j < 4; j += 2, p += 4 * LANES) {
      widen(p, w);
      add<R>(sums[j % PARTS], x + i + j, stride, w[0]);
      add<R>(sums[(j + 1) % PARTS], x + i + j + 1, stride, w[1]);
    }
  for (; i < in; i += 2, p += 4 * LANES) {
    widen(p, w);
    add<R>(sums[0], x + i, stride, w[0]);
    if (i + 1 < in) add<R>(sums[0], x + i + 1, stride, w[1]);
  }
  for (int r = 0; r < R; r++)
    for (int half = 0; half < 2; half++) {
      Vec whole = sums[0][r][half];
      for (int part = 1; part < PARTS; part++) whole += sums[part][r][half];
      store(y + (2 * r + half) * LANES, whole);
    }
}

typedef void (*Tile)(const void*, const float*, int64_t, int64_t, float*);
#define TILES_4(T) tile<1, T>, tile<2, T>, tile<3, T>, tile<4, T>
#if defined(__AVX512F__)
#define TILES(T) {TILES_4(T), tile<5, T>, tile<6, T>, tile<7, T>, tile<8, T>}
#else
#define TILES(T) {TILES_4(T)}
#endif
static const Tile tiles[3][TILE] = {TILES(float), TILES(bf16), TILES(int8_t)};

// Calls use(row, n, low, high) with the outputs of every block b and row: low = W x + bias of the block's
// first LANES outputs, high of its others, n = b·LANES. Within a parallel region each thread takes a part of
// the blocks; all threads wait for the last.
template <typename Use>
INLINE void product(const Matrix& m, const float* x, int64_t stride, int64_t rows, Use use) {
  constexpr int64_t size[] = {4, 2, 1};
  int64_t blocks = (m.out + 2 * LANES - 1) / (2 * LANES);
#pragma omp for schedule(static)
  for (int64_t b = 0; b < blocks; b++) {
    const char* w = (const char*)m.weight + b * ((m.in + 1) / 2) * 4 * LANES * size[m.type];
    const float *bias = m.bias + b * 2 * LANES, *scale = m.scale ? m.scale + b * 2 * LANES : nullptr;
    for (int64_t row = 0; row < rows; row += TILE) {
      int64_t count = rows - row < TILE ? rows - row : TILE;
      float y[TILE * 2 * LANES] __attribute__((aligned(64)));
      tiles[m.type][count - 1](w, x + row * stride, stride, m.in, y);
      for (int64_t r = 0; r < count; r++) {
        Vec low = load(y + 2 * r * LANES), high = load(y + (2 * r + 1) * LANES);
        if (scale) low *= load(scale), high *= load(scale + LANES);
        use(row + r, b * LANES, low + load(bias), high + load(bias + LANES));
      }
    }
  }
}
