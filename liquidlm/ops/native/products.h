// Products of small matrices in float32 that lie in the cache.
//
// The rows of a matrix begin at multiples of LANES, and the place between two rows may be read and written. So
// columns have no tails; what is computed between two rows is not used.
#pragma once

#include <utility>

#include "lanes.h"

// The members of a named class would exist once for all instruction sets: the linker keeps one of equal names.
namespace {

// A tile of the result is summed in registers: all but those for one row of b and one number of a.
constexpr int64_t TILE_ROWS = 6;
#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE_VECTORS 4
#else
#define TILE_VECTORS 2
#endif

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t whole_lanes(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

// Element (i, j) is at[i·down + j·along].
struct Matrix {
  float* at;
  int64_t rows, columns, down, along;

  float* row(int64_t i) const { return at + i * down; }
  float operator()(int64_t i, int64_t j) const { return at[i * down + j * along]; }
  Matrix part(int64_t i, int64_t m, int64_t j, int64_t n) const {
    return {at + i * down + j * along, m, n, down, along};
  }
};

// A view; `product` takes it as its left operand.
INLINE Matrix turned(Matrix x) { return {x.at, x.columns, x.rows, x.along, x.down}; }

// What a product does to c: c = ab, c = c + ab, c = c − ab.
enum Into { SET, ADD, SUBTRACT };

// What a product may leave out. LOWER: a_il = 0 for l > i. UPPER: a_il = 0 for l < i. LOWER_RESULT: c_ij with
// j > i are not needed, and not all of them are computed.
enum Shape { FULL, LOWER, UPPER, LOWER_RESULT };

template <int R, int V>
static void tile(Into into, float* c, int64_t c_down, const float* a, int64_t a_down, int64_t a_along,
                 const float* b, int64_t b_down, int64_t k) {
  Vec sums[R][V] = {};
  for (int64_t l = 0; l < k; l++, a += a_along, b += b_down) {
    Vec x[V];
#pragma GCC unroll 4
    for (int j = 0; j < V; j++) x[j] = load(b + j * LANES);
#pragma GCC unroll 6
    for (int i = 0; i < R; i++) {
      Vec y = all(a[i * a_down]);
#pragma GCC unroll 4
      for (int j = 0; j < V; j++) sums[i][j] += y * x[j];
    }
  }
  auto each = [&](auto result) INLINED {
#pragma GCC unroll 6
    for (int i = 0; i < R; i++)
#pragma GCC unroll 4
      for (int j = 0; j < V; j++) {
        float* to = c + i * c_down + j * LANES;
        store(to, result(to, sums[i][j]));
      }
  };
  if (into == SET) each([](float*, Vec x) INLINED { return x; });
  if (into == ADD) each([](float* to, Vec x) INLINED { return load(to) + x; });
  if (into == SUBTRACT) each([](float* to, Vec x) INLINED { return load(to) - x; });
}

template <int R>
static void strip(Into into, Matrix c, Matrix a, Matrix b) {
  int64_t vectors = (b.columns + LANES - 1) / LANES;
  for (int64_t j = 0; j < vectors; j += TILE_VECTORS) {
    auto run = [&](auto* of_vectors) {
      of_vectors(into, c.at + j * LANES, c.down, a.at, a.down, a.along, b.at + j * LANES, b.down, a.columns);
    };
    switch (least(TILE_VECTORS, vectors - j)) {
      case 1: run(tile<R, 1>); break;
      case 2: run(tile<R, 2>); break;
#if TILE_VECTORS > 2
      case 3: run(tile<R, 3>); break;
      case 4: run(tile<R, 4>); break;
#endif
    }
  }
}

// At most TILE_ROWS rows of a product.
static CALLED void few_rows(Into into, Matrix c, Matrix a, Matrix b) {
  switch (a.rows) {
    case 1: return strip<1>(into, c, a, b);
    case 2: return strip<2>(into, c, a, b);
    case 3: return strip<3>(into, c, a, b);
    case 4: return strip<4>(into, c, a, b);
    case 5: return strip<5>(into, c, a, b);
    case 6: return strip<6>(into, c, a, b);
  }
}

// c (m×n) = or += or −= a (m×k) b (k×n). a may be a turned matrix, b and c may not.
static CALLED void product(Into into, Matrix c, Matrix a, Matrix b, Shape shape = FULL) {
  for (int64_t i = 0; i < a.rows; i += TILE_ROWS) {
    int64_t rows = least(TILE_ROWS, a.rows - i), end = i + rows, columns = b.columns;
    int64_t first = shape == UPPER ? i : 0, last = shape == LOWER ? end : a.columns;
    if (shape == LOWER_RESULT) columns = least(columns, end);
    few_rows(into, c.part(i, rows, 0, columns), a.part(i, rows, first, last - first),
             b.part(first, last - first, 0, columns));
  }
}

// The lanes of a and b in turn: of their first halves, or of their second.
template <bool second, int... I>
INLINE Vec interleaved(Vec a, Vec b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, ((second ? LANES / 2 : 0) + I / 2 + I % 2 * LANES)...);
}

// y = xᵀ, by blocks of LANES × LANES: after log₂ LANES rounds of interleaving rows i and i + LANES/2 the block
// is turned.
static CALLED void transpose(Matrix x, Matrix y) {
  constexpr std::make_integer_sequence<int, LANES> lanes;
  for (int64_t i = 0; i < x.rows; i += LANES)
    for (int64_t j = 0; j < x.columns; j += LANES) {
      Vec block[LANES], next[LANES];
      for (int l = 0; l < LANES; l++) block[l] = i + l < x.rows ? load(x.row(i + l) + j) : Vec{};
#pragma GCC unroll 4
      for (int round = 1; round < LANES; round *= 2) {
#pragma GCC unroll 8
        for (int l = 0; l < LANES / 2; l++) {
          next[2 * l] = interleaved<false>(block[l], block[l + LANES / 2], lanes);
          next[2 * l + 1] = interleaved<true>(block[l], block[l + LANES / 2], lanes);
        }
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++) block[l] = next[l];
      }
      for (int l = 0; l < least(LANES, x.columns - j); l++) store(y.row(j + l) + i, block[l]);
    }
}

}  // namespace
