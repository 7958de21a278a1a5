// A small matrix product for the inside of a loop over events: a few rows times weights that never change.
//
// The weights are packed once into panels of two vectors of columns. A panel is read from first to last, and
// its sums stay in registers. A column's sum has the same order for every number of rows and threads.
#pragma once

#include "lanes.h"

// Columns of a panel.
constexpr int PANEL = 2 * LANES;

// Rows that are computed side by side: their sums and a panel's two vectors fit the registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int SIDE = 8;
#else
constexpr int SIDE = 4;
#endif

INLINE int64_t parts_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Panel p holds the columns p·stride … of `weights` and, in its second vector, those `second` further on. The
// weight of column n for input k is weights[k·by_input + n·by_column]. Columns from `width` on are 0.
static void pack(const float* weights, int64_t by_input, int64_t by_column, int64_t depth, int64_t width,
                 int64_t panels, int64_t stride, int64_t second, int64_t width_of_second, float* packed) {
  for (int64_t p = 0; p < panels; p++)
    for (int64_t k = 0; k < depth; k++)
      for (int64_t lane = 0; lane < LANES; lane++) {
        int64_t a = p * stride + lane, b = a + second;
        float* to = packed + (p * depth + k) * PANEL + lane;
        to[0] = a < width ? weights[k * by_input + a * by_column] : 0.0f;
        to[LANES] = b < width_of_second ? weights[k * by_input + b * by_column] : 0.0f;
      }
}

template <int ROWS>
static void product_of(const float* x, int64_t depth, const float* panel, Vec (*out)[2]) {
  Vec a[ROWS] = {}, b[ROWS] = {};
  for (int64_t k = 0; k < depth; k++) {
    Vec p = load(panel + k * PANEL), q = load(panel + k * PANEL + LANES);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      a[r] += x[r * depth + k] * p;
      b[r] += x[r * depth + k] * q;
    }
  }
  for (int r = 0; r < ROWS; r++) out[r][0] = a[r], out[r][1] = b[r];
}

// out[r] = the panel's columns for row r of x (rows ≤ SIDE, depth).
static void product(int64_t rows, const float* x, int64_t depth, const float* panel, Vec (*out)[2]) {
  while (rows > 0) {
    int64_t n = rows >= 8 && SIDE >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
    if (n == 8) product_of<8>(x, depth, panel, out);
    else if (n == 4) product_of<4>(x, depth, panel, out);
    else if (n == 2) product_of<2>(x, depth, panel, out);
    else product_of<1>(x, depth, panel, out);
    rows -= n, x += n * depth, out += n;
  }
}
