// What followed the last n tokens, counted in a hash table of fixed size: the exact memory.
//
// A table has lines of 16 entries. An entry is 0, or  check · 2²¹ + token · 2⁵ + count  with 11, 16 and 5 bits:
// `token` followed a context with this `check` so many times. The entries of a line are in the order of their
// last use, the newest first. ops/counts.py defines the kernel, in Python.
#include <stdint.h>
#include <string.h>

#include "lanes.h"

constexpr int ENTRIES = 16, TOKEN_BITS = 16, COUNT_BITS = 5, CHECK_BITS = 11, AHEAD = 4;
constexpr uint32_t MOST = (1u << COUNT_BITS) - 1, LOW = (1u << (COUNT_BITS + TOKEN_BITS)) - 1;
constexpr uint64_t FACTOR = 0x9E3779B97F4A7C15u, MIXER = 0xD6E8FEB86659FD93u;

// A context's place: its line, and what tells it from other contexts of that line.
struct Place {
  uint32_t* line;
  uint32_t check;
};

INLINE Place place(uint32_t* table, int64_t lines, uint64_t hash) {
  uint64_t line = (hash >> 32) & (uint64_t)(lines - 1), check = hash & ((1u << CHECK_BITS) - 1);
  return {table + line * ENTRIES, (uint32_t)check << (TOKEN_BITS + COUNT_BITS)};
}

// Whether the line has an entry of the context.
static bool known(Place at) {
  bool found = false;
  for (int i = 0; i < ENTRIES; i++) found |= (at.line[i] & ~LOW) == at.check && (at.line[i] & MOST);
  return found;
}

// Count a token once more. A full count halves all counts of its context; a full line loses the least counted
// entry of its older half, the oldest of equals.
static void add(Place at, uint32_t token) {
  uint32_t* line = at.line;
  uint32_t key = at.check | token << COUNT_BITS, entry = key | 1;
  int slot = 0;
  while (slot < ENTRIES && (line[slot] & ~MOST) != key) slot++;
  if (slot == ENTRIES || !(line[slot] & MOST)) {
    slot = ENTRIES - 1;
    for (int i = ENTRIES - 2; i >= ENTRIES / 2; i--)
      if ((line[i] & MOST) < (line[slot] & MOST)) slot = i;
  } else {
    if ((line[slot] & MOST) == MOST)
      for (int i = 0; i < ENTRIES; i++)
        if ((line[i] & ~LOW) == at.check && (line[i] & MOST))
          line[i] = (line[i] & ~MOST) | ((line[i] & MOST) + 1) / 2;
    entry = line[slot] + 1;
  }
  memmove(line + 1, line, slot * sizeof *line);
  line[0] = entry;
}

// The entries of a context, without their check; 0 where the line holds another context's.
static void find(Place at, int32_t* found) {
  for (int i = 0; i < ENTRIES; i++)
    found[i] = (at.line[i] & ~LOW) == at.check && (at.line[i] & MOST) ? (int32_t)(at.line[i] & LOW) : 0;
}

// Count a token after its contexts, from the shortest up to the first that is new.
static void count(uint32_t* table, int64_t lines, const uint64_t* hash, int64_t orders, uint32_t token) {
  bool before = true;
  for (int64_t n = 0; n < orders && before; n++) {
    Place at = place(table, lines, hash[n]);
    before = known(at);
    add(at, token);
  }
}

struct Sizes {
  int64_t length, longest, orders, lines, training_lines;
  bool keeps;  // a start does not clear the table
};

// The hashes of the last n tokens after an event, for each order n; `context` has the newest token last.
static void hashes(const int64_t* context, const int64_t* orders, Sizes of, uint64_t* result) {
  uint64_t hash = 0;
  int64_t next = 0;
  for (int64_t n = 1; n <= of.longest && next < of.orders; n++) {
    hash = (hash + (uint64_t)context[of.longest - n] + 1) * FACTOR;
    hash ^= hash >> 29;
    if (orders[next] == n) {
      uint64_t mixed = (hash + (uint64_t)n) * MIXER;
      result[next++] = mixed ^ mixed >> 32;
    }
  }
}

// One row. `work` holds (length + 1, orders) hashes.
static void row(const int64_t* ids, const uint8_t* start, int64_t real, int64_t* context, uint32_t* table,
                uint32_t* training, const int64_t* orders, uint64_t* work, int32_t* found, Sizes of) {
  hashes(context, orders, of, work);
  for (int64_t t = 0; t < real; t++) {
    if (start[t]) memset(context, 0, of.longest * sizeof *context);
    memmove(context, context + 1, (of.longest - 1) * sizeof *context);
    context[of.longest - 1] = ids[t] + 1;
    hashes(context, orders, of, work + (t + 1) * of.orders);
  }
  int64_t levels = of.orders * ((training != nullptr) + (table != nullptr));
  for (int64_t t = 0; t < real; t++) {
    const uint64_t *before = work + t * of.orders, *after = before + of.orders;
    const uint64_t* soon = work + (t + AHEAD < real ? t + AHEAD + 1 : real) * of.orders;
    for (int64_t n = 0; n < of.orders; n++) {
      if (training) __builtin_prefetch(place(training, of.training_lines, soon[n]).line);
      if (table) __builtin_prefetch(place(table, of.lines, soon[n]).line, 1);
    }
    if (table && start[t] && !of.keeps) memset(table, 0, of.lines * ENTRIES * sizeof *table);
    if (table && !start[t]) count(table, of.lines, before, of.orders, (uint32_t)ids[t]);
    if (!found) continue;
    int32_t* to = found + t * levels * ENTRIES;
    for (int64_t n = 0; n < of.orders; n++) {
      if (training) find(place(training, of.training_lines, after[n]), to), to += ENTRIES;
      if (table) find(place(table, of.lines, after[n]), to), to += ENTRIES;
    }
  }
}

// ids, start: (rows, length); real: (rows) events that are not padding; context: (rows, longest), changed;
// table: (rows, lines, 16), changed, or null; training: (training_lines, 16) or null; found: (rows, length,
// levels, 16), zeros, or null; work: (rows, length + 1, orders).
EXPORT void KERNEL(counts)(const int64_t* ids, const uint8_t* start, const int64_t* real, int64_t* context,
                           uint32_t* table, uint32_t* training, const int64_t* orders, uint64_t* work, int32_t* found,
                           int64_t rows, int64_t length, int64_t longest, int64_t count, int64_t lines,
                           int64_t training_lines, int64_t keeps, int64_t threads) {
  Sizes of{length, longest, count, lines, training_lines, keeps != 0};
  int64_t levels = count * ((training != nullptr) + (table != nullptr));
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (int64_t r = 0; r < rows; r++)
    row(ids + r * length, start + r * length, real[r], context + r * longest,
        table ? table + r * lines * ENTRIES : nullptr, training, orders, work + r * (length + 1) * count,
        found ? found + r * length * levels * ENTRIES : nullptr, of);
}
