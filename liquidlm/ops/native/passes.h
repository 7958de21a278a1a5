// Passes over the rows of a tensor. Work is split into pieces of rows, whatever the number of threads.
#pragma once

#include "lanes.h"

// The members of a named class would exist once for all instruction sets: the linker keeps one of equal names.
namespace {

// The rows of a tensor, all `width` numbers wide.
struct Sizes {
  int64_t rows, width, threads;

  // Rows of a piece: enough that the sums of the pieces are small beside the rows.
  int64_t piece() const { return width < 512 ? 16384 / width : 32; }
  int64_t pieces() const { return (rows + piece() - 1) / piece(); }
};

}  // namespace

// The sum over a row: term(j, count) is the vector at j, of which the first `count` lanes count. Four sums side
// by side, so that an addition does not wait for the one before.
template <typename Term>
INLINE float row_sum(int64_t width, Term term) {
  Vec sums[4] = {};
  int64_t j = 0;
  for (; j + 4 * LANES <= width; j += 4 * LANES)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) sums[v] += term(j + v * LANES, LANES);
  for (; j < width; j += LANES) {
    Vec x = term(j, width - j);
    sums[0] += numbered(j) < (int32_t)width ? x : Vec{};
  }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Calls run(j, count) for the vectors of a row.
template <typename Run>
INLINE void for_vectors(int64_t width, Run run) {
  int64_t j = 0;
  for (; j + LANES <= width; j += LANES) run(j, LANES);
  if (j < width) run(j, width - j);
}

// Calls run(piece, row) for all rows.
template <typename Run>
INLINE void for_rows(const Sizes& z, Run run) {
#pragma omp parallel for num_threads(z.threads) schedule(static) if (z.pieces() > 1)
  for (int64_t piece = 0; piece < z.pieces(); piece++) {
    int64_t last = (piece + 1) * z.piece() < z.rows ? (piece + 1) * z.piece() : z.rows;
    for (int64_t row = piece * z.piece(); row < last; row++) run(piece, row);
  }
}
