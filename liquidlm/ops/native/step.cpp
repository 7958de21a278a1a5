// The next tokens of every row through a whole model, in one parallel region: one when text is written, many when
// it is read. `model/torch_step.py` defines the result for one.
//
//     x = table[id] (+ n-grams)
//     per block:  u = norm(x),  c = conv(u) (through the memory, if there is one),  h = cell(c),
//                 x += out h,  x += down (silu(gate v) ⊙ up v),  v = norm(x)
//     logits = output · norm(x);  with a time head, of x before the last block
//
// An event is a token of a row. Products take all events as rows; what passes from event to event (the last inputs,
// h, the memory) goes through them in order. The states are read at one place and written to another. Threads
// split the outputs of a product, and rows, heads or events elsewhere; each number is computed by one thread. So
// the result does not depend on their number.
#include <math.h>
#include <string.h>

#include "rows.h"

// ---- The plan of a model. The fields of these structs are those of the classes in step.py.

struct Norm {
  const float* weight;
  int64_t width;
  double eps;
};

struct Memory {
  int64_t heads, writes;  // no heads: no memory
  PackedMatrix weight;          // of q, k…, v…, gate, leak and strengths
  Norm norm;
};

struct Block {
  Norm mixer_norm, mlp_norm;
  const float *taps, *gap_scale;  // (width, hidden) and (hidden)
  int64_t width;                  // of the convolution
  Memory memory;
  int64_t own_state, context;      // whether the cell's context sees tanh h; its size
  PackedMatrix context_warp, synapse;    // of ([tanh h,] c): context and warp; of (c, context): pairs of f and A
  const float *leak, *minus_pace;
  PackedMatrix out, gate_up, down;       // gate and up in pairs
  int64_t inner;                   // width of the MLP
};

struct Model {
  int64_t hidden, vocabulary, blocks;
  const float* table;
  const Block* block;
  Norm norm, time_norm;  // no weight: no time head
  PackedMatrix output;
  int64_t longest, ngram_rows, ngram_dim;  // longest 0: no n-grams
  const float* ngram_table;
  PackedMatrix ngram_proj;
  int64_t weighs_gap;
  double gap_weight;
};

struct State {
  const float *h, *conv, *memory;  // no memory: null
  const int64_t* past;             // the last tokens, each as id + 1; of the first block, with n-grams
  float *h_after, *conv_after, *memory_after;
  int64_t* past_after;
};

// The members of a named class would exist once for all instruction sets: the linker keeps one of equal names.
namespace {

// How many rows there are, and events of each row.
struct Size {
  int64_t rows, events;
  int64_t all() const { return rows * events; }
};

}  // namespace

// What the events need besides: all (rows, events, …). `window` holds the inputs of the convolution of a row, the
// last ones of the state before them.
struct Work {
  float *x, *u, *window, *seen, *reads, *h, *inner, *found;
  float *elapsed, *log_gap, *duration, *warp;
  Room room;
};

// ---- Parts of a row

INLINE Vec silu(Vec x) { return x * sigmoid(x); }
INLINE float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }

static void norm(const Norm& how, const float* x, float* y) {
  Vec total{}, squares{};
  for (int64_t j = 0; j < how.width; j += LANES) total += load(x + j, how.width - j);
  float mean = sum(total) / how.width;
  for (int64_t j = 0; j < how.width; j += LANES) {
    Vec off = load(x + j, how.width - j, mean) - mean;
    squares += off * off;
  }
  float scale = 1.0f / sqrtf(sum(squares) / how.width + (float)how.eps);
  for (int64_t j = 0; j < how.width; j += LANES)
    store(y + j, (load(x + j, how.width - j) - mean) * scale * load(how.weight + j, how.width - j),
          how.width - j);
}

// c = Σ_j taps_j ⊙ window_j + gap_scale·log(1 + gap). The window: the last inputs, the newest at its end.
static void conv(const Block& p, int64_t hidden, const float* window, float log_gap, float* c) {
  for (int64_t j = 0; j < hidden; j += LANES) {
    int64_t n = hidden - j;
    Vec y = load(p.gap_scale + j, n) * log_gap;
    for (int64_t i = 0; i < p.width; i++)
      y += load(window + i * hidden + j, n) * load(p.taps + i * hidden + j, n);
    store(c + j, y, n);
  }
}

// x ▶ silu(x), and to length 1 if asked.
static void activate(float* x, int64_t width, bool to_length_1) {
  Vec squares{};
  for (int64_t j = 0; j < width; j += LANES) {
    Vec y = silu(load(x + j, width - j));
    squares += y * y;
    store(x + j, y, width - j);
  }
  if (!to_length_1) return;
  float scale = 1.0f / fmaxf(sqrtf(sum(squares)), 1e-12f);
  for (int64_t j = 0; j < width; j += LANES) store(x + j, load(x + j, width - j) * scale, width - j);
}

// after = fade·S + k rᵀ (no k: no pass), and what `reader` reads from it: sums = afterᵀ reader. For N vectors of
// columns side by side; the last of them has `n` columns.
template <int N>
INLINE void write_columns(const float* S, float fade, const float* k, const float* r, float* after,
                          const float* reader, int64_t width, int64_t n, float* sums) {
  Vec total[N] = {}, delta[N] = {};
  auto count = [&](int c) INLINED { return c + 1 < N ? LANES : n; };
  if (k)
#pragma GCC unroll 4
    for (int c = 0; c < N; c++) delta[c] = load(r + c * LANES, count(c));
  for (int64_t i = 0; i < width; i++)
#pragma GCC unroll 4
    for (int c = 0; c < N; c++) {
      int64_t place = i * width + c * LANES;
      Vec s = load(S + place, count(c)) * fade;
      if (k) store(after + place, s += k[i] * delta[c], count(c));
      total[c] += reader[i] * s;
    }
#pragma GCC unroll 4
  for (int c = 0; c < N; c++) store(sums + c * LANES, total[c], count(c));
}

static void write(const float* S, float fade, const float* k, const float* r, float* after,
                  const float* reader, int64_t width, float* sums) {
  int64_t j = 0;
  for (; j + 4 * LANES <= width; j += 4 * LANES)
    write_columns<4>(S + j, fade, k, r + j, after + j, reader, width, LANES, sums + j);
  for (; j < width; j += LANES)
    write_columns<1>(S + j, fade, k, r + j, after + j, reader, width, width - j, sums + j);
}

// One event of one head, and its gated read to c. `reads` holds the row's q, k…, v…, gate, leak and strengths.
static void remember(const Memory& p, int64_t hidden, int64_t head, float* reads, float elapsed,
                     const float* S, float* after, float* c) {
  int64_t width = hidden / p.heads, place = head * width;
  float *keys = reads + hidden + place, *values = keys + p.writes * hidden, *q = reads + place;
  float* gate = values + p.writes * hidden;
  const float* rates = reads + (2 * p.writes + 2) * hidden + head;
  activate(q, width, true);
  for (int64_t w = 0; w < p.writes; w++) {
    activate(keys + w * hidden, width, true);
    activate(values + w * hidden, width, false);
  }
  float fade = expf(-fmaxf(softplus(rates[0]) - 1e-4f, 0.0f) * elapsed);
  float* held = c + place;  // what the memory holds at the next key; at the end, the read
  write(S, fade, nullptr, values, after, keys, width, held);
  for (int64_t w = 0; w < p.writes; w++) {
    float *k = keys + w * hidden, *v = values + w * hidden;
    float strength = 2.2f / (1.0f + expf(-rates[(1 + w) * p.heads])) - 0.1f;
    strength = fminf(fmaxf(strength, 0.0f), 2.0f);
    for (int64_t j = 0; j < width; j++) v[j] = strength * (v[j] - held[j]);
    const float* next = w + 1 < p.writes ? k + hidden : q;
    write(w ? after : S, w ? 1.0f : fade, k, v, after, next, width, held);
  }
  norm(p.norm, held, held);
  activate(gate, width, false);
  for (int64_t j = 0; j < width; j++) held[j] *= gate[j];
}

// x = table[id] of one event; the rows of the n-grams are gathered to `found`. Before a row's ids come its last
// tokens, `past`, each as id + 1.
static void embed(const Model& p, const int64_t* ids, int64_t t, const int64_t* past, float* x, float* found) {
  memcpy(x, p.table + ids[t] * p.hidden, p.hidden * sizeof *x);
  constexpr int64_t prime = 2147483647, factor = 742938285;  // of nn/ngram.py
  int64_t hashed = (ids[t] + 1) % prime, number = p.longest - 1;
  for (int64_t n = 0; n < number; n++) {
    int64_t before = t > n ? ids[t - 1 - n] + 1 : past[number + t - 1 - n];
    hashed = (hashed * factor + before) % prime;
    int64_t slot = hashed % p.ngram_rows + n * p.ngram_rows;
    memcpy(found + n * p.ngram_dim, p.ngram_table + slot * p.ngram_dim, p.ngram_dim * sizeof *found);
  }
}

// ---- Steps of all events, within a parallel region

static void add_product(const PackedMatrix& m, const float* input, int64_t stride, const Work& w, int64_t hidden,
                        int64_t count) {
  float* x = w.x;
  product(m, input, stride, count, w.room, [=](int64_t i, int64_t n, Vec low, Vec high) INLINED {
    float* to = x + i * hidden + 2 * n;
    int64_t left = hidden - 2 * n;
    store(to, load(to, left) + low, left);
    if (left > LANES) store(to + LANES, load(to + LANES, left - LANES) + high, left - LANES);
  });
}

static void set_product(const PackedMatrix& m, const float* input, int64_t stride, const Work& w, float* y,
                        int64_t width, int64_t count) {
  product(m, input, stride, count, w.room, [=](int64_t i, int64_t n, Vec low, Vec high) INLINED {
    float* to = y + i * width + 2 * n;
    int64_t left = width - 2 * n;
    store(to, low, left);
    if (left > LANES) store(to + LANES, high, left - LANES);
  });
}

// y (count, width): the norm of every event, or of the last one of every row.
static void normed(const Norm& how, const float* x, float* y, Size size, bool every = true) {
  int64_t each = every ? 1 : size.events, count = size.all() / each;
#pragma omp for schedule(static)
  for (int64_t i = 0; i < count; i++) norm(how, x + ((i + 1) * each - 1) * how.width, y + i * how.width);
}

// Times of an event: with a weight, a gap counts as 1 + weight·gap.
static void set_times(const float* gap, bool weighs, float weight, const Work& w, Size size) {
#pragma omp for schedule(static)
  for (int64_t i = 0; i < size.all(); i++) {
    w.elapsed[i] = weighs ? 1.0f + weight * gap[i] : gap[i];
    w.log_gap[i] = log1pf(gap[i]);
    w.duration[i] = w.elapsed[i] + 1.0f;
  }
}

static void convolve(const Block& p, int64_t hidden, const State& s, const Work& w, float* c, int64_t stride,
                     Size size) {
  int64_t past = p.width - 1, row_size = (past + size.events) * hidden;
#pragma omp for schedule(static)
  for (int64_t i = 0; i < size.all(); i++) {
    int64_t row = i / size.events, t = i % size.events;
    float* window = w.window + row * row_size;
    if (t == 0 && past) memcpy(window, s.conv + row * past * hidden, past * hidden * sizeof *window);
    norm(p.mixer_norm, w.x + i * hidden, window + (past + t) * hidden);
  }
#pragma omp for schedule(static)
  for (int64_t i = 0; i < size.all(); i++) {
    int64_t row = i / size.events, t = i % size.events;
    const float* window = w.window + row * row_size;
    conv(p, hidden, window + t * hidden, w.log_gap[i], c + i * stride);
    if (t + 1 == size.events && past)
      memcpy(s.conv_after + row * past * hidden, window + size.events * hidden,
             past * hidden * sizeof *window);
  }
}

static void through_memory(const Memory& p, int64_t hidden, const State& s, const Work& w, float* c,
                           int64_t stride, Size size) {
  int64_t width = (2 * p.writes + 2) * hidden + (1 + p.writes) * p.heads, cells = hidden / p.heads * hidden;
  set_product(p.weight, c, stride, w, w.reads, width, size.all());
#pragma omp for collapse(2) schedule(static)
  for (int64_t row = 0; row < size.rows; row++)
    for (int64_t head = 0; head < p.heads; head++) {
      int64_t place = row * cells + head * (cells / p.heads);
      float* after = s.memory_after + place;
      for (int64_t t = 0; t < size.events; t++) {
        int64_t i = row * size.events + t;
        remember(p, hidden, head, w.reads + i * width, w.elapsed[i], t ? after : s.memory + place, after,
                 c + i * stride);
      }
    }
}

static void block(const Block& p, int64_t hidden, const State& s, const Work& w, Size size) {
  int64_t stride = 2 * hidden + p.context, count = size.all();
  float *c = w.seen + hidden, *context = c + hidden;  // a row of `seen`: tanh h, c, context
  convolve(p, hidden, s, w, c, stride, size);
  if (p.memory.heads) through_memory(p.memory, hidden, s, w, c, stride, size);
  if (p.own_state)  // has one event
#pragma omp for schedule(static)
    for (int64_t row = 0; row < size.rows; row++)
      for (int64_t j = 0; j < hidden; j += LANES)
        store(w.seen + row * stride + j, tanh(load(s.h + row * hidden + j, hidden - j)), hidden - j);
  product(p.context_warp, p.own_state ? w.seen : c, stride, count, w.room,
          [&](int64_t i, int64_t n, Vec low, Vec high) INLINED {
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
              Vec y = half ? high : low;
              int64_t first = 2 * n + half * LANES, left = p.context - first;
              if (left > 0) store(context + i * stride + first, silu(y), left);
              if (left >= 0 && left < LANES) w.warp[i] = softplus(y[left]) * w.duration[i];
            }
          });
  product(p.synapse, c, stride, count, w.room, [&](int64_t i, int64_t n, Vec f, Vec potential) INLINED {
    int64_t left = hidden - n, row = i / size.events, t = i % size.events;
    Vec h = load((t ? w.h + (i - 1) * hidden : s.h + row * hidden) + n, left);
    f = softplus(f, exp(-abs(f)));
    Vec rate = f + load(p.leak + n, left, 1.0f);
    Vec q = expm1(rate * load(p.minus_pace + n, left) * w.warp[i]);
    h += q * (h - f / rate * potential);
    store(w.h + i * hidden + n, h, left);
    if (t + 1 == size.events) store(s.h_after + row * hidden + n, h, left);
  });
  add_product(p.out, w.h, hidden, w, hidden, count);
  normed(p.mlp_norm, w.x, w.u, size);
  product(p.gate_up, w.u, hidden, count, w.room, [&](int64_t i, int64_t n, Vec gate, Vec up) INLINED {
    store(w.inner + i * p.inner + n, silu(gate) * up, p.inner - n);
  });
  add_product(p.down, w.inner, p.inner, w, hidden, count);
}

static int64_t align(int64_t count) { return (count + 15) / 16 * 16; }

// The work of all events lies in one piece of memory; with none given, only its size is computed.
static int64_t lay_out(const Model& p, Size size, int64_t threads, float* start, Work& w) {
  int64_t past = 0, seen = 0, reads = 0, inner = 0, used = 0, count = size.all();
  int64_t found = p.longest ? (p.longest - 1) * p.ngram_dim : 0, widest = found;
  for (int64_t i = 0; i < p.blocks; i++) {
    const Block& b = p.block[i];
    int64_t of_memory = (2 * b.memory.writes + 2) * p.hidden + (1 + b.memory.writes) * b.memory.heads;
    if (b.width - 1 > past) past = b.width - 1;
    if (b.context + 2 * p.hidden > seen) seen = b.context + 2 * p.hidden;
    if (b.memory.heads && of_memory > reads) reads = of_memory;
    if (b.inner > inner) inner = b.inner;
  }
  if (seen > widest) widest = seen;
  if (inner > widest) widest = inner;
  int64_t pairs = (widest + 1) / 2, tiles = count > TILE * threads ? count : TILE * threads;
  float *inputs, *weights;
  int64_t sizes[] = {count * p.hidden, count * p.hidden, (count + size.rows * past) * p.hidden,
                     count * seen,     count * reads,    count * p.hidden,
                     count * inner,    count * found,    count,
                     count,            count,            count,
                     tiles * pairs,    threads * pairs * 2 * LANES};
  float** places[] = {&w.x,     &w.u,       &w.window,  &w.seen,     &w.reads, &w.h,    &w.inner,
                      &w.found, &w.elapsed, &w.log_gap, &w.duration, &w.warp,  &inputs, &weights};
  for (int i = 0; i < 14; i++) {
    *places[i] = start ? start + used : nullptr;
    used += align(sizes[i]);
  }
  w.room = {(uint32_t*)inputs, (uint32_t*)weights, pairs};
  return used;
}

// How many float32 numbers of work this many events of each row need.
EXPORT int64_t KERNEL(step_work)(const Model* model, int64_t rows, int64_t events, int64_t threads) {
  Work w;
  return lay_out(*model, {rows, events}, threads, nullptr, w);
}

EXPORT int64_t KERNEL(step_lanes)() { return LANES; }

// ids and gap are (rows, events); logits and features are those after every event, or after the last one of every
// row. Several events need blocks without `own_state`. Returns 0, or 1 if an id is outside the vocabulary; then
// nothing is computed.
EXPORT int64_t KERNEL(step)(const Model* model, const State* states, const int64_t* ids, const float* gap,
                            float* logits, float* features, float* work, int64_t rows, int64_t events,
                            int64_t every, int64_t threads) {
  const Model& p = *model;
  Size size = {rows, events};
  for (int64_t i = 0; i < size.all(); i++)
    if (ids[i] < 0 || ids[i] >= p.vocabulary) return 1;
  Work w;
  lay_out(p, size, threads, work, w);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int64_t number = p.longest ? p.longest - 1 : 0, found = number * p.ngram_dim;
    set_times(gap, p.weighs_gap, p.gap_weight, w, size);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < size.all(); i++) {
      int64_t row = i / events, t = i % events;
      const int64_t *own = ids + row * events, *past = states->past + row * number;
      embed(p, own, t, past, w.x + i * p.hidden, w.found + i * found);
      if (t + 1 == events)
        for (int64_t n = 0; n < number; n++)
          states->past_after[row * number + number - 1 - n] = t >= n ? own[t - n] + 1 : past[number + t - n];
    }
    if (p.longest) add_product(p.ngram_proj, w.found, found, w, p.hidden, size.all());
    int64_t last = p.blocks - 1, of_text = p.time_norm.weight ? last : p.blocks;
    for (int64_t i = 0; i < of_text; i++) block(p.block[i], p.hidden, states[i], w, size);
    normed(p.norm, w.x, w.u, size, every);
    set_product(p.output, w.u, p.hidden, w, logits, p.vocabulary, every ? size.all() : rows);
    if (of_text == last) {  // the block of the time head has the clock of real time
      set_times(gap, false, 0.0f, w, size);
      block(p.block[last], p.hidden, states[last], w, size);
      normed(p.time_norm, w.x, features, size, every);
    }
  }
  return 0;
}
