// Products of rows with a packed matrix: y (rows × out) = x (rows × in) · W.
//
// W is read once per tile of rows, straight through: in blocks of 2·LANES outputs (its `low` and its `high`
// vector), and in a block two inputs after the other two; an odd last input has an input of zeros beside it.
// The numbers are float32, bf16 or int8; an int8 times 2²⁴ times the scale of its output is the weight. They are
// widened to float32 in registers, once for all rows of a tile. A sum is in float32, in the order of the inputs: it
// is the same to the bit, however many rows there are.
//
// DOTS: a processor that multiplies pairs of bf16 rounds the inputs to bf16 too, and an int8 is a bf16 without
// rounding. It takes twice as many products per instruction.
#pragma once

#include "lanes.h"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// Rows of a tile: so many sums of two vectors stay in registers.
#if defined(__AVX512F__)
constexpr int TILE = 8;
#else
constexpr int TILE = 4;
#endif

enum Kind { FLOAT32, BF16, INT8, BF16_DOTS, INT8_DOTS };

// The fields are those of `PackedMatrix` in step.py.
struct PackedMatrix {
  const void* weight;  // (blocks, in/2, …): see `widen`
  const float* scale;  // (blocks, 2, LANES), or null
  const float* bias;   // (blocks, 2, LANES)
  int64_t type, in, out;
};

// Room for the products of DOTS: the pairs of a matrix with the most inputs, for every row or for a tile of
// every thread, and those of one block of weights for every thread.
struct Room {
  uint32_t *inputs, *weights;
  int64_t pairs;
};

INLINE int64_t pairs_of(const PackedMatrix& m) { return (m.in + 1) / 2; }
INLINE int64_t blocks_of(const PackedMatrix& m) { return (m.out + 2 * LANES - 1) / (2 * LANES); }
INLINE int64_t this_thread() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

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
typedef void (*Dots)(const void*, int64_t, const uint32_t*, int64_t, int64_t, float*);
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

#if defined(__AVX512F__)
#define WITH_DOTS __attribute__((target("avx512bf16")))

// Both inputs of the low or the high outputs, as bf16.
INLINE Bits pair(const bf16* p, int half) { return words(p + half * 2 * LANES); }
INLINE Bits pair(const int8_t* p, int half) {
  return (Bits)byte(words(p), half) >> 16 | ((Bits)byte(words(p), 2 + half) & 0xffff0000u);
}

// As `tile`, of inputs that are pairs of bf16.
template <int R, int G, typename T>
WITH_DOTS static void dots(const void* weight, int64_t block_bytes, const uint32_t* x, int64_t stride,
                           int64_t pairs, float* y) {
  Vec sums[G][R][2] = {};
  const char* p = (const char*)weight;
  for (int64_t i = 0; i < pairs; i++, p += 4 * LANES * sizeof(T))
#pragma GCC unroll 8
    for (int g = 0; g < G; g++)
#pragma GCC unroll 8
      for (int half = 0; half < 2; half++) {
        __m512bh w = (__m512bh)pair((const T*)(p + g * block_bytes), half);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
          sums[g][r][half] = (Vec)_mm512_dpbf16_ps((__m512)sums[g][r][half],
                                                   (__m512bh)_mm512_set1_epi32(x[r * stride + i]), w);
      }
  store_sums<R, G>(sums, y);
}
template <typename T>
INLINE Dots dots_of(int64_t rows, int64_t group) {
  static const Dots all[] = TILES(dots, T), grouped[] = GROUPS(dots, T);
  return group > 1 ? grouped[rows - 1] : all[rows - 1];
}

// A block of int8 as bf16.
INLINE void widen_block(const int8_t* p, int64_t pairs, uint32_t* to) {
  for (int64_t i = 0; i < pairs; i++, p += 4 * LANES)
    for (int half = 0; half < 2; half++) {
      Bits w = pair(p, half);
      __builtin_memcpy(to + (2 * i + half) * LANES, &w, sizeof w);
    }
}
#endif

// Rows of x to pairs of bf16.
INLINE void narrow(const float* x, int64_t in, uint32_t* to) {
  bf16* p = (bf16*)to;
  for (int64_t j = 0; j < in; j += LANES) store(p + j, load(x + j, in - j), in - j);
  if (in % 2) p[in] = 0;
}

// The sums of `group` blocks for up to TILE rows.
INLINE void sums_of(const PackedMatrix& m, const void* weight, int64_t type, int64_t block_bytes, int64_t group,
                    const float* x, int64_t stride, const uint32_t* narrowed, int64_t rows, float* y) {
#if defined(__AVX512F__)
  if (type >= BF16_DOTS) {
    Dots f = type == BF16_DOTS ? dots_of<bf16>(rows, group) : dots_of<int8_t>(rows, group);
    return f(weight, block_bytes, narrowed, pairs_of(m), pairs_of(m), y);
  }
#endif
  Tile f = type == FLOAT32 ? tile_of<float>(rows, group)
           : type == BF16  ? tile_of<bf16>(rows, group)
                           : tile_of<int8_t>(rows, group);
  f(weight, block_bytes, x, stride, m.in, y);
}

// Calls use(row, n, low, high) with the outputs of every block b and row, the rows of a block in order: low = W x +
// bias of the block's first LANES outputs, high of its others, n = b·LANES. Within a parallel region each thread
// takes a part of the blocks; all threads wait for the last.
template <typename Use>
INLINE void product(const PackedMatrix& m, const float* x, int64_t stride, int64_t rows, const Room& room, Use use) {
  constexpr int64_t bytes[] = {4, 2, 1, 2, 1};
  int64_t pairs = pairs_of(m), blocks = blocks_of(m), group = group_of(rows), thread = this_thread();
  int64_t block_bytes = pairs * 4 * LANES * bytes[m.type];
  uint32_t* inputs = room.inputs;
  if (m.type >= BF16_DOTS && rows <= TILE) {
    inputs += thread * TILE * room.pairs;
    for (int64_t row = 0; row < rows; row++) narrow(x + row * stride, m.in, inputs + row * pairs);
  } else if (m.type >= BF16_DOTS) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) narrow(x + row * stride, m.in, inputs + row * pairs);
  }
#pragma omp for schedule(static)
  for (int64_t first = 0; first < blocks; first += group) {
    const void* w = (const char*)m.weight + first * block_bytes;
    int64_t type = m.type, together = first + group <= blocks ? group : 1;
#if defined(__AVX512F__)
    if (type == INT8_DOTS && rows > TILE) {
      uint32_t* wide = room.weights + thread * room.pairs * 2 * LANES;
      widen_block((const int8_t*)w, pairs, wide);
      w = wide, type = BF16_DOTS;
    }
#endif
    int64_t end = first + group < blocks ? first + group : blocks;
    for (int64_t b = first; b < end; b += together)
      for (int64_t row = 0; row < rows; row += TILE) {
        int64_t count = rows - row < TILE ? rows - row : TILE;
        float y[(TILE > 4 ? TILE : 4) * 2 * LANES] __attribute__((aligned(64)));
        sums_of(m, (const char*)w + (b - first) * block_bytes, type, block_bytes, together, x + row * stride,
                stride, inputs + row * pairs, count, y);
        for (int64_t g = 0; g < together; g++) {
          const float *bias = m.bias + (b + g) * 2 * LANES, *scale = m.scale ? m.scale + (b + g) * 2 * LANES : nullptr;
          for (int64_t r = 0; r < count; r++) {
            const float* sums = y + (g * count + r) * 2 * LANES;
            Vec low = load(sums), high = load(sums + LANES);
            if (scale) low *= load(scale), high *= load(scale + LANES);
            use(row + r, (b + g) * LANES, low + load(bias), high + load(bias + LANES));
          }
        }
      }
  }
}
