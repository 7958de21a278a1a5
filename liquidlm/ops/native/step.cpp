// One token per row through a whole model, in one parallel region; `model/torch_step.py` defines the result.
//
//     x = table[id] (+ n-grams)
//     per block:  u = norm(x),  c = conv(u) (through the memory, if there is one),  h = cell(c),
//                 x += out h,  x += down (silu(gate v) ⊙ up v),  v = norm(x)
//     logits = output · norm(x);  with a time head, of x before the last block
//
// The states are read at one place and written to another. Threads split the outputs of a product, and rows
// elsewhere; each number is computed by one thread. So the result does not depend on their number.
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
  Matrix weight;          // of q, k…, v…, gate, leak and strengths
  Norm norm;
};

struct Block {
  Norm mixer_norm, mlp_norm;
  const float *taps, *gap_scale;  // (width, hidden) and (hidden)
  int64_t width;                  // of the convolution
  Memory memory;
  int64_t own_state, context;      // whether the cell's context sees tanh h; its size
  Matrix context_warp, synapse;    // of ([tanh h,] c): context and warp; of (c, context): pairs of f and A
  const float *leak, *minus_pace;
  Matrix out, gate_up, down;       // gate and up in pairs
  int64_t inner;                   // width of the MLP
};

struct Model {
  int64_t hidden, vocabulary, blocks;
  const float* table;
  const Block* block;
  Norm norm, time_norm;  // no weight: no time head
  Matrix output;
  int64_t longest, ngram_rows, ngram_dim;  // longest 0: no n-grams
  const float* ngram_table;
  Matrix ngram_proj;
  int64_t weighs_gap;
  double gap_weight;
};

struct State {
  const float *h, *conv, *memory;  // no memory: null
  const int64_t* past;             // the last tokens, each as id + 1; of the first block, with n-grams
  float *h_after, *conv_after, *memory_after;
  int64_t* past_after;
};

// What one token needs besides: all (rows, …).
struct Work {
  float *x, *u, *seen, *reads, *inner, *found;
  float *elapsed, *log_gap, *duration;
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

// c = Σ_j taps_j ⊙ (the last inputs)_j + gap_scale·log(1 + gap), and the last inputs after u.
static void conv(const Block& p, int64_t hidden, const float* u, float log_gap, const float* tail,
                 float* after, float* c) {
  int64_t past = p.width - 1;
  for (int64_t j = 0; j < hidden; j += LANES) {
    int64_t n = hidden - j;
    Vec y = load(u + j, n) * load(p.taps + past * hidden + j, n) + load(p.gap_scale + j, n) * log_gap;
    for (int64_t i = 0; i < past; i++) y += load(tail + i * hidden + j, n) * load(p.taps + i * hidden + j, n);
    store(c + j, y, n);
  }
  if (past == 0) return;
  memcpy(after, tail + hidden, (past - 1) * hidden * sizeof *after);
  memcpy(after + (past - 1) * hidden, u, hidden * sizeof *after);
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
  auto count = [&](int c) { return c + 1 < N ? LANES : n; };
  if (k)
    for (int c = 0; c < N; c++) delta[c] = load(r + c * LANES, count(c));
  for (int64_t i = 0; i < width; i++)
    for (int c = 0; c < N; c++) {
      int64_t place = i * width + c * LANES;
      Vec s = load(S + place, count(c)) * fade;
      if (k) store(after + place, s += k[i] * delta[c], count(c));
      total[c] += reader[i] * s;
    }
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

// x = table[id]; the rows of the n-grams are gathered to `found`. past: the last tokens, each as id + 1.
static void embed(const Model& p, int64_t id, const int64_t* past, int64_t* past_after, float* x,
                  float* found) {
  memcpy(x, p.table + id * p.hidden, p.hidden * sizeof *x);
  if (p.longest == 0) return;
  constexpr int64_t prime = 2147483647, factor = 742938285;  // of nn/ngram.py
  int64_t hashed = (id + 1) % prime, number = p.longest - 1;
  for (int64_t n = 0; n < number; n++) {
    hashed = (hashed * factor + past[number - 1 - n]) % prime;
    int64_t slot = hashed % p.ngram_rows + n * p.ngram_rows;
    memcpy(found + n * p.ngram_dim, p.ngram_table + slot * p.ngram_dim, p.ngram_dim * sizeof *found);
  }
  memmove(past_after, past + 1, (number - 1) * sizeof *past);
  past_after[number - 1] = id + 1;
}

// ---- Steps of all rows, within a parallel region

static void add_product(const Matrix& m, const float* input, int64_t stride, float* x, int64_t hidden,
                        int64_t rows) {
  product(m, input, stride, rows, [=](int64_t row, int64_t n, Vec low, Vec high) {
    float* to = x + row * hidden + 2 * n;
    int64_t left = hidden - 2 * n;
    store(to, load(to, left) + low, left);
    if (left > LANES) store(to + LANES, load(to + LANES, left - LANES) + high, left - LANES);
  });
}

static void normed(const Norm& how, const float* x, float* y, int64_t rows) {
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; row++) norm(how, x + row * how.width, y + row * how.width);
}

// Times of a token: with a weight, a gap counts as 1 + weight·gap.
static void set_times(const float* gap, bool weighs, float weight, const Work& w, int64_t rows) {
#pragma omp single
  for (int64_t row = 0; row < rows; row++) {
    w.elapsed[row] = weighs ? 1.0f + weight * gap[row] : gap[row];
    w.log_gap[row] = log1pf(gap[row]);
    w.duration[row] = w.elapsed[row] + 1.0f;
  }
}

static void through_memory(const Memory& p, int64_t hidden, const State& s, const Work& w, float* c,
                           int64_t stride, int64_t rows) {
  int64_t width = (2 * p.writes + 2) * hidden + (1 + p.writes) * p.heads, cells = hidden / p.heads * hidden;
  product(p.weight, c, stride, rows, [=](int64_t row, int64_t n, Vec low, Vec high) {
    float* to = w.reads + row * width + 2 * n;
    int64_t left = width - 2 * n;
    store(to, low, left);
    if (left > LANES) store(to + LANES, high, left - LANES);
  });
#pragma omp for collapse(2) schedule(static)
  for (int64_t row = 0; row < rows; row++)
    for (int64_t head = 0; head < p.heads; head++) {
      int64_t place = row * cells + head * (cells / p.heads);
      remember(p, hidden, head, w.reads + row * width, w.elapsed[row], s.memory + place,
               s.memory_after + place, c + row * stride);
    }
}

static void block(const Block& p, int64_t hidden, const State& s, const Work& w, float* warp, int64_t rows) {
  int64_t stride = 2 * hidden + p.context;
  float *c = w.seen + hidden, *context = c + hidden;  // a row of `seen`: tanh h, c, context
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; row++) {
    float* u = w.u + row * hidden;
    int64_t place = row * (p.width - 1) * hidden;
    norm(p.mixer_norm, w.x + row * hidden, u);
    conv(p, hidden, u, w.log_gap[row], s.conv + place, s.conv_after + place, c + row * stride);
    if (p.own_state)
      for (int64_t j = 0; j < hidden; j += LANES)
        store(w.seen + row * stride + j, tanh(load(s.h + row * hidden + j, hidden - j)), hidden - j);
  }
  if (p.memory.heads) through_memory(p.memory, hidden, s, w, c, stride, rows);
  product(p.context_warp, p.own_state ? w.seen : c, stride, rows,
          [&](int64_t row, int64_t n, Vec low, Vec high) {
            for (int half = 0; half < 2; half++) {
              Vec y = half ? high : low;
              int64_t first = 2 * n + half * LANES, left = p.context - first;
              if (left > 0) store(context + row * stride + first, silu(y), left);
              if (left >= 0 && left < LANES) warp[row] = softplus(y[left]) * w.duration[row];
            }
          });
  product(p.synapse, c, stride, rows, [&](int64_t row, int64_t n, Vec f, Vec potential) {
    int64_t left = hidden - n;
    Vec h = load(s.h + row * hidden + n, left), minus_pace = load(p.minus_pace + n, left);
    f = softplus(f, exp(-abs(f)));
    Vec rate = f + load(p.leak + n, left, 1.0f);
    Vec q = expm1(rate * minus_pace * warp[row]);
    store(s.h_after + row * hidden + n, h + q * (h - f / rate * potential), left);
  });
  add_product(p.out, s.h_after, hidden, w.x, hidden, rows);
  normed(p.mlp_norm, w.x, w.u, rows);
  product(p.gate_up, w.u, hidden, rows, [&](int64_t row, int64_t n, Vec gate, Vec up) {
    store(w.inner + row * p.inner + n, silu(gate) * up, p.inner - n);
  });
  add_product(p.down, w.inner, p.inner, w.x, hidden, rows);
}

static int64_t align(int64_t count) { return (count + 15) / 16 * 16; }

// The work of `rows` rows lies in one piece of memory; with none given, only its size is computed.
static int64_t lay_out(const Model& p, int64_t rows, float* start, Work& w, float*& warp) {
  int64_t seen = 0, reads = 0, inner = 0, used = 0;
  for (int64_t i = 0; i < p.blocks; i++) {
    const Block& b = p.block[i];
    int64_t of_memory = (2 * b.memory.writes + 2) * p.hidden + (1 + b.memory.writes) * b.memory.heads;
    if (b.context + 2 * p.hidden > seen) seen = b.context + 2 * p.hidden;
    if (b.memory.heads && of_memory > reads) reads = of_memory;
    if (b.inner > inner) inner = b.inner;
  }
  int64_t found = p.longest ? (p.longest - 1) * p.ngram_dim : 0;
  int64_t sizes[] = {p.hidden, p.hidden, seen, reads, inner, found, 1, 1, 1, 1};
  float** places[] = {&w.x,     &w.u,       &w.seen,    &w.reads,    &w.inner,
                      &w.found, &w.elapsed, &w.log_gap, &w.duration, &warp};
  for (int i = 0; i < 10; i++) {
    *places[i] = start ? start + used : nullptr;
    used += align(rows * sizes[i]);
  }
  return used;
}

// How many float32 numbers of work `rows` rows need.
EXPORT int64_t KERNEL(step_work)(const Model* model, int64_t rows) {
  Work w;
  float* warp;
  return lay_out(*model, rows, nullptr, w, warp);
}

EXPORT int64_t KERNEL(step_lanes)() { return LANES; }

// Returns 0, or 1 if an id is outside the vocabulary; then nothing is computed.
EXPORT int64_t KERNEL(step)(const Model* model, const State* states, const int64_t* ids, const float* gap,
                            float* logits, float* features, float* work, int64_t rows, int64_t threads) {
  const Model& p = *model;
  for (int64_t row = 0; row < rows; row++)
    if (ids[row] < 0 || ids[row] >= p.vocabulary) return 1;
  Work w;
  float* warp;
  lay_out(p, rows, work, w, warp);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int64_t number = p.longest ? p.longest - 1 : 0, found = number * p.ngram_dim;
    set_times(gap, p.weighs_gap, p.gap_weight, w, rows);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++)
      embed(p, ids[row], states->past + row * number, states->past_after + row * number,
            w.x + row * p.hidden, w.found + row * found);
    if (p.longest) add_product(p.ngram_proj, w.found, found, w.x, p.hidden, rows);
    int64_t last = p.blocks - 1, of_text = p.time_norm.weight ? last : p.blocks;
    for (int64_t i = 0; i < of_text; i++) block(p.block[i], p.hidden, states[i], w, warp, rows);
    normed(p.norm, w.x, w.u, rows);
    product(p.output, w.u, p.hidden, rows, [&](int64_t row, int64_t n, Vec low, Vec high) {
      float* to = logits + row * p.vocabulary + 2 * n;
      int64_t left = p.vocabulary - 2 * n;
      store(to, low, left);
      if (left > LANES) store(to + LANES, high, left - LANES);
    });
    if (of_text == last) {  // the block of the time head has the clock of real time
      set_times(gap, false, 0.0f, w, rows);
      block(p.block[last], p.hidden, states[last], w, warp, rows);
      normed(p.time_norm, w.x, features, rows);
    }
  }
  return 0;
}
