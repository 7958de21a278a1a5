// Weights packed for the products of `tiles.h` inside a loop over events: panels of two vectors of columns.
#pragma once

#include "tiles.h"

// Columns of a panel.
constexpr int PANEL = 2 * LANES;

INLINE int64_t parts_of(int64_t count, int64_t size) { return (count + size - 1) / size; }
// Numbers of a panel: as many inputs, rounded up to an even number, times its columns.
INLINE int64_t panel_size(int64_t depth) { return parts_of(depth, 2) * 2 * PANEL; }

// Panel p holds the columns p·stride … and, in its second vector, those `second` further on. The weight of
// column n for input k is weights[k·by_input + n·by_column]. Columns from `width`, or `width_of_second`, on
// are 0.
static void pack(const float* weights, int64_t by_input, int64_t by_column, int64_t depth, int64_t width,
                 int64_t panels, int64_t stride, int64_t second, int64_t width_of_second, float* packed) {
  for (int64_t p = 0; p < panels; p++)
    for (int64_t k = 0; k < depth; k++)
      for (int64_t lane = 0; lane < LANES; lane++) {
        int64_t a = p * stride + lane, b = a + second;
        float* to = packed + p * panel_size(depth) + k * PANEL + lane;
        to[0] = a < width ? weights[k * by_input + a * by_column] : 0.0f;
        to[LANES] = b < width_of_second ? weights[k * by_input + b * by_column] : 0.0f;
      }
}

// y (rows, PANEL) = the panel's columns for each row of x (rows ≤ TILE, depth).
INLINE void product(int64_t rows, const float* x, int64_t depth, const float* panel, float* y) {
  tile_of<float>(rows)(panel, 0, x, depth, depth, y);
}
