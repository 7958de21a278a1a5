// Products of rows with a packed matrix: y (rows × out) = x (rows × in) · W.
//
// W is read once per tile of rows, straight through, in the blocks of `tiles.h`.
//
// DOTS: a processor that multiplies pairs of bf16 rounds the inputs to bf16 too, and an int8 is a bf16 without
// rounding. It takes twice as many products per instruction.
#pragma once

#include "tiles.h"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

enum Kind { FLOAT32, BF16, INT8, BF16_DOTS, INT8_DOTS };

// The fields are those of `PackedMatrix` in step.py.
struct PackedMatrix {
  const void* weight;  // (blocks, in/2, …): see `widen` in tiles.h
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

#if defined(__AVX512F__)
typedef void (*Dots)(const void*, int64_t, const uint32_t*, int64_t, int64_t, float*);
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
static void widen_block(const int8_t* p, int64_t pairs, uint32_t* to) {
  for (int64_t i = 0; i < pairs; i++, p += 4 * LANES)
    for (int half = 0; half < 2; half++) {
      Bits w = pair(p, half);
      __builtin_memcpy(to + (2 * i + half) * LANES, &w, sizeof w);
    }
}
#endif

// Rows of x to pairs of bf16: each thread has those of a tile, or all threads share those of all rows.
static const uint32_t* narrowed(const PackedMatrix& m, const float* x, int64_t stride, int64_t rows,
                                const Room& room) {
  int64_t pairs = pairs_of(m);
  auto narrow = [=](int64_t row, uint32_t* to) {
    const float* from = x + row * stride;
    bf16* p = (bf16*)(to + row * pairs);
    for (int64_t j = 0; j < m.in; j += LANES) store(p + j, load(from + j, m.in - j), m.in - j);
    if (m.in % 2) p[m.in] = 0;
  };
  if (rows <= TILE) {
    uint32_t* own = room.inputs + this_thread() * TILE * room.pairs;
    for (int64_t row = 0; row < rows; row++) narrow(row, own);
    return own;
  }
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; row++) narrow(row, room.inputs);
  return room.inputs;
}

// The sums of `group` blocks for up to TILE rows.
static void sums_of(const PackedMatrix& m, const void* weight, int64_t type, int64_t block_bytes, int64_t group,
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
  int64_t pairs = pairs_of(m), blocks = blocks_of(m), group = group_of(rows);
  int64_t block_bytes = pairs * 4 * LANES * bytes[m.type];
  const uint32_t* inputs = m.type >= BF16_DOTS ? narrowed(m, x, stride, rows, room) : room.inputs;
#pragma omp for schedule(static)
  for (int64_t first = 0; first < blocks; first += group) {
    const void* w = (const char*)m.weight + first * block_bytes;
    int64_t type = m.type, together = first + group <= blocks ? group : 1;
#if defined(__AVX512F__)
    if (type == INT8_DOTS && rows > TILE) {
      uint32_t* wide = room.weights + this_thread() * room.pairs * 2 * LANES;
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
