// The matrix memory in chunks of C tokens, forward and backward; S₀ is the state before the chunk:
//
//     D_ij = e^{g_{j+1}+…+g_i} for j ≤ i,   γ_i = e^{g_1+…+g_i},   Γ_i = D_Ci
//     A = tril(KKᵀ⊙D, −1),   R = QKᵀ⊙D
//     Y = V − γKS₀ − AU,   U = ηY      surprises and writes, by substitution: one token after the other
//     O = γQS₀ + RU,   S = γ_C S₀ + KᵀΓU
//
// The gradients, where x′ is that of x:
//
//     U′ = RᵀO′ + ΓKS′,   B = U′ − AᵀV′,   V′ = ηB      by substitution from the last token on
//     η′_i = B_i·Y_i,   R′ = O′Uᵀ,   A′ = −V′Uᵀ
//     Q′ = γO′S₀ᵀ + (R′⊙D)K,   K′ = ΓUS′ᵀ − γV′S₀ᵀ + (R′⊙D)ᵀQ + (A′⊙D)K + (A′⊙D)ᵀK
//     S₀′ = γ_C S′ + QᵀγO′ − KᵀγV′
//     g′_l = the sum of the gradients of all log D_ij with j < l ≤ i, log γ_i with l ≤ i, log Γ_i with i < l
//
// Work is split into rows × heads. All matrices of a chunk stay in the cache. The forward pass keeps S₀ and Y;
// the rest is cheaper to compute again than to read.
#include "products.h"

// A tensor (B, T, N, ·) in float32 or bfloat16, as the Python side describes it: the strides of its first three
// dimensions in numbers; the last one is dense.
struct Tokens {
  void* at;
  int64_t is_bf16, row, token, head;
};

namespace {

// The events of one head of one row.
struct Events {
  void* at;
  bool is_bf16;
  int64_t token;

  Events(const Tokens& x, int64_t row, int64_t head) : is_bf16(x.is_bf16), token(x.token) {
    at = (char*)x.at + (row * x.row + head * x.head) * (is_bf16 ? 2 : 4);
  }
  // Events first, first + 1, … as the rows of a matrix. Between two of its rows there are zeros.
  CALLED void read(int64_t first, Matrix to) const {
    if (is_bf16) read((const bf16*)at + first * token, to);
    else read((const float*)at + first * token, to);
  }
  CALLED void write(int64_t first, Matrix from) const {
    if (is_bf16) write((bf16*)at + first * token, from);
    else write((float*)at + first * token, from);
  }

 private:
  template <typename T>
  void read(const T* from, Matrix to) const {
    for (int64_t i = 0; i < to.rows; i++)
      for (int64_t j = 0; j < to.columns; j += LANES)
        store(to.row(i) + j, load(from + i * token + j, to.columns - j));
  }
  template <typename T>
  void write(T* to, Matrix from) const {
    for (int64_t i = 0; i < from.rows; i++)
      for (int64_t j = 0; j < from.columns; j += LANES)
        store(to + i * token + j, load(from.row(i) + j), from.columns - j);
  }
};

INLINE Events dense(float* x, int64_t columns) { return Events({x, 0, 0, columns, 0}, 0, 0); }

// The matrices of a chunk, side by side in the memory of a task. The states come first: they outlive the chunk.
struct Chunk {
  float* memory;
  int64_t used = 0;
  Matrix state, state_grad, before, q, k, q_grad, k_grad, faded, y, u, o, y_grad, v_grad,
      a, r, d, a_grad, r_grad;
  Matrix turned_k, turned_u, turned_before, turned_state_grad;
  float *since, *until, *g, *eta, *of_since, *of_until, *of_g, *of_eta, *sums;

  // Without memory it only counts what it would use.
  Chunk(float* memory, int64_t tokens, int64_t keys, int64_t values) : memory(memory) {
    for (Matrix* x : {&state, &state_grad, &before}) *x = matrix(keys, values);
    for (Matrix* x : {&q, &k, &q_grad, &k_grad, &faded}) *x = matrix(tokens, keys);
    for (Matrix* x : {&y, &u, &o, &y_grad, &v_grad}) *x = matrix(tokens, values);
    for (Matrix* x : {&a, &r, &d, &a_grad, &r_grad}) *x = matrix(tokens, tokens);
    turned_k = matrix(keys, tokens), turned_u = matrix(values, tokens);
    turned_before = matrix(values, keys), turned_state_grad = matrix(values, keys);
    for (float** x : {&since, &until, &g, &eta, &of_since, &of_until, &of_g, &of_eta, &sums})
      *x = matrix(1, tokens).at;
  }

 private:
  Matrix matrix(int64_t rows, int64_t columns) {
    Matrix x{memory ? memory + used : nullptr, rows, columns, whole_lanes(columns), 1};
    used += rows * x.down;
    return x;
  }
};

// x's row i times scale[i].
static CALLED void scale_rows(Matrix x, const float* scale) {
  for (int64_t i = 0; i < x.rows; i++)
    for (int64_t j = 0; j < x.columns; j += LANES) store(x.row(i) + j, scale[i] * load(x.row(i) + j));
}

static CALLED void scale_all(Matrix x, float scale) {
  for (int64_t i = 0; i < x.rows; i++)
    for (int64_t j = 0; j < x.columns; j += LANES) store(x.row(i) + j, scale * load(x.row(i) + j));
}

// x's row i less scale[i] times row i of y.
static CALLED void subtract_rows(Matrix x, const float* scale, Matrix y) {
  for (int64_t i = 0; i < x.rows; i++)
    for (int64_t j = 0; j < x.columns; j += LANES)
      store(x.row(i) + j, load(x.row(i) + j) - scale[i] * load(y.row(i) + j));
}

// The product of row i of x and row i of y.
static CALLED float dot(Matrix x, Matrix y, int64_t i) {
  Vec total{};
  for (int64_t j = 0; j < x.columns; j += LANES) total += load(x.row(i) + j) * load(y.row(i) + j);
  return sum(total);
}

// D, γ and Γ. The terms are summed: differences of sums would lose a small decay beside a large one, and −∞ − (−∞)
// is NaN.
static void decays(Chunk& x) {
  int64_t tokens = x.q.rows;
  for (int64_t j = 0; j < tokens; j += LANES) store(x.sums + j, Vec{});
  float all_so_far = 0;
  for (int64_t i = 0; i < tokens; i++) {
    all_so_far += x.g[i];
    x.since[i] = all_so_far;
    for (int64_t j = 0; j < tokens; j += LANES) {
      Vec y{};
      if (j <= i) {
        Vec s = load(x.sums + j);
        s = numbered(j) < (int32_t)i ? s + x.g[i] : s;
        store(x.sums + j, s);
        y = numbered(j) <= (int32_t)i ? exp(s) : Vec{};
      }
      store(x.d.row(i) + j, y);
    }
  }
  for (int64_t j = 0; j < tokens; j += LANES) {
    store(x.since + j, exp(load(x.since + j, tokens - j)));
    store(x.until + j, load(x.d.row(tokens - 1) + j));
  }
}

// A and R.
static void couplings(Chunk& x) {
  transpose(x.k, x.turned_k);
  product(SET, x.a, x.k, x.turned_k, LOWER_RESULT);
  product(SET, x.r, x.q, x.turned_k, LOWER_RESULT);
  for (int64_t i = 0; i < x.q.rows; i++)
    for (int64_t j = 0; j < x.q.rows; j += LANES) {
      Vec d = load(x.d.row(i) + j);
      store(x.a.row(i) + j, numbered(j) < (int32_t)i ? d * load(x.a.row(i) + j) : Vec{});
      store(x.r.row(i) + j, numbered(j) <= (int32_t)i ? d * load(x.r.row(i) + j) : Vec{});
    }
}

// Makes y − az out of y, where z = ηy of the result, for strictly lower triangular a; with `upwards` for strictly
// upper triangular a. Token after token: powers of a would overflow where keys are nearly parallel.
template <bool upwards>
static void substitute(Matrix a, const float* eta, Matrix y, Matrix z) {
  int64_t tokens = y.rows, blocks = (tokens + TILE_ROWS - 1) / TILE_ROWS;
  for (int64_t block = 0; block < blocks; block++) {
    int64_t first = (upwards ? blocks - 1 - block : block) * TILE_ROWS, rows = least(TILE_ROWS, tokens - first);
    int64_t known = upwards ? first + rows : 0, count = upwards ? tokens - known : first;
    few_rows(SUBTRACT, y.part(first, rows, 0, y.columns), a.part(first, rows, known, count),
                       z.part(known, count, 0, z.columns));
    for (int64_t j = 0; j < y.columns; j += LANES) {
      Vec done[TILE_ROWS];
      for (int64_t n = 0; n < rows; n++) {
        int64_t i = upwards ? first + rows - 1 - n : first + n;
        Vec sum = load(y.row(i) + j);
        for (int64_t l = 0; l < n; l++) sum -= a(i, upwards ? first + rows - 1 - l : first + l) * done[l];
        done[n] = eta[i] * sum;
        store(y.row(i) + j, sum);
        store(z.row(i) + j, done[n]);
      }
    }
  }
}

// What all heads and rows share.
struct Sizes {
  int64_t rows, length, heads, keys, values, chunk;

  int64_t chunks() const { return (length + chunk - 1) / chunk; }
  int64_t tokens(int64_t i) const { return least(chunk, length - i * chunk); }
  int64_t tasks() const { return rows * heads; }
};

// What the pass over one head of one row reads first in each chunk.
static void read_chunk(Chunk& x, const Sizes& n, int64_t task, int64_t first, const Tokens* inputs,
                       const float* g, const float* eta) {
  int64_t row = task / n.heads, head = task % n.heads;
  Events(inputs[0], row, head).read(first, x.q);
  Events(inputs[1], row, head).read(first, x.k);
  for (int64_t i = 0; i < x.q.rows; i++) {
    int64_t at = (row * n.length + first + i) * n.heads + head;
    x.g[i] = g[at], x.eta[i] = eta[at];
  }
  decays(x);
  couplings(x);
}

static void forward(const Sizes& n, int64_t task, const Tokens* tokens, const float* g, const float* eta,
                    const float* state, float* last, float* states, float* memory) {
  int64_t row = task / n.heads, head = task % n.heads, size = n.keys * n.values;
  Events values(tokens[2], row, head), reads(tokens[3], row, head), surprises(tokens[4], row, head);
  Matrix s = Chunk(memory, 0, n.keys, n.values).state;
  dense((float*)state + task * size, n.values).read(0, s);
  for (int64_t i = 0; i < n.chunks(); i++) {
    Chunk x(memory, n.tokens(i), n.keys, n.values);
    int64_t first = i * n.chunk, end = n.tokens(i) - 1;
    if (states) dense(states + (task * n.chunks() + i) * size, n.values).write(0, s);
    read_chunk(x, n, task, first, tokens, g, eta);
    values.read(first, x.y);
    product(SET, x.o, x.k, s);
    subtract_rows(x.y, x.since, x.o);
    substitute<false>(x.a, x.eta, x.y, x.u);
    if (states) surprises.write(first, x.y);
    product(SET, x.o, x.q, s);
    scale_rows(x.o, x.since);
    product(ADD, x.o, x.r, x.u, LOWER);
    reads.write(first, x.o);
    scale_rows(x.u, x.until);
    scale_all(s, x.since[end]);
    product(ADD, s, turned(x.k), x.u);
  }
  dense(last + task * size, n.values).write(0, s);
}

// g′ from the gradients of log D (in x.a), of log γ and of log Γ.
static void decay_gradients(Chunk& x) {
  int64_t tokens = x.q.rows;
  for (int64_t j = 0; j < tokens; j += LANES) store(x.sums + j, Vec{});
  float after = 0, before = 0;
  for (int64_t l = tokens - 1; l >= 0; l--) {
    Vec total{};
    for (int64_t j = 0; j <= l; j += LANES) {
      Vec columns = load(x.sums + j) + load(x.a.row(l) + j);
      store(x.sums + j, columns);
      total += numbered(j) < (int32_t)l ? columns : Vec{};
    }
    after += x.of_since[l];
    x.of_g[l] = sum(total) + after;
  }
  for (int64_t l = 0; l < tokens; l++) {
    x.of_g[l] += before;
    before += x.of_until[l];
  }
}

static void backward(const Sizes& n, int64_t task, const Tokens* tokens, const float* g, const float* eta,
                     const float* states, const float* last_grad, float* g_grad, float* eta_grad,
                     float* first_grad, float* memory) {
  int64_t row = task / n.heads, head = task % n.heads, size = n.keys * n.values;
  Events surprises(tokens[4], row, head), read_grads(tokens[3], row, head);
  Events q_grad(tokens[5], row, head), k_grad(tokens[6], row, head), v_grad(tokens[7], row, head);
  Matrix ds = Chunk(memory, 0, n.keys, n.values).state_grad;
  dense((float*)last_grad + task * size, n.values).read(0, ds);
  for (int64_t i = n.chunks() - 1; i >= 0; i--) {
    Chunk x(memory, n.tokens(i), n.keys, n.values);
    int64_t first = i * n.chunk, count = n.tokens(i);
    dense((float*)states + (task * n.chunks() + i) * size, n.values).read(0, x.before);
    read_chunk(x, n, task, first, tokens, g, eta);
    surprises.read(first, x.y);
    surprises.read(first, x.u);
    scale_rows(x.u, x.eta);
    read_grads.read(first, x.o);
    transpose(x.u, x.turned_u);
    transpose(x.before, x.turned_before);
    transpose(ds, x.turned_state_grad);

    product(SET, x.y_grad, x.k, ds);
    scale_rows(x.y_grad, x.until);
    product(ADD, x.y_grad, turned(x.r), x.o, UPPER);
    substitute<true>(turned(x.a), x.eta, x.y_grad, x.v_grad);
    for (int64_t j = 0; j < count; j++) x.of_eta[j] = dot(x.y_grad, x.y, j);
    v_grad.write(first, x.v_grad);

    // R′⊙D and −A′⊙D; the gradients of log D take the place of A.
    product(SET, x.r_grad, x.o, x.turned_u, LOWER_RESULT);
    product(SET, x.a_grad, x.v_grad, x.turned_u, LOWER_RESULT);
    for (int64_t l = 0; l < count; l++)
      for (int64_t j = 0; j < count; j += LANES) {
        Vec d = load(x.d.row(l) + j);
        Vec of_r = numbered(j) <= (int32_t)l ? load(x.r_grad.row(l) + j) : Vec{};
        Vec of_a = numbered(j) < (int32_t)l ? load(x.a_grad.row(l) + j) : Vec{};
        store(x.a.row(l) + j, of_r * load(x.r.row(l) + j) - of_a * load(x.a.row(l) + j));
        store(x.r_grad.row(l) + j, of_r * d);
        store(x.a_grad.row(l) + j, of_a * d);
      }

    product(SET, x.q_grad, x.o, x.turned_before);
    product(SET, x.faded, x.v_grad, x.turned_before);
    for (int64_t j = 0; j < count; j++)
      x.of_since[j] = x.since[j] * (dot(x.q, x.q_grad, j) - dot(x.k, x.faded, j));
    scale_rows(x.q_grad, x.since);
    product(ADD, x.q_grad, x.r_grad, x.k, LOWER);
    q_grad.write(first, x.q_grad);

    product(SET, x.k_grad, x.u, x.turned_state_grad);
    scale_rows(x.k_grad, x.until);
    for (int64_t j = 0; j < count; j++) x.of_until[j] = dot(x.k, x.k_grad, j);
    subtract_rows(x.k_grad, x.since, x.faded);
    product(ADD, x.k_grad, turned(x.r_grad), x.q, UPPER);
    product(SUBTRACT, x.k_grad, x.a_grad, x.k, LOWER);
    product(SUBTRACT, x.k_grad, turned(x.a_grad), x.k, UPPER);
    k_grad.write(first, x.k_grad);

    for (int64_t j = 0; j < n.keys; j++)
      x.of_since[count - 1] += x.since[count - 1] * dot(x.before, ds, j);
    scale_rows(x.o, x.since);
    scale_rows(x.v_grad, x.since);
    scale_all(ds, x.since[count - 1]);
    product(ADD, ds, turned(x.q), x.o);
    product(SUBTRACT, ds, turned(x.k), x.v_grad);

    decay_gradients(x);
    for (int64_t j = 0; j < count; j++) {
      int64_t at = (row * n.length + first + j) * n.heads + head;
      g_grad[at] = x.of_g[j], eta_grad[at] = x.of_eta[j];
    }
  }
  dense(first_grad + task * size, n.values).write(0, ds);
}

}  // namespace

// The float32 numbers of memory that one thread needs.
EXPORT int64_t KERNEL(memory_scratch)(int64_t chunk, int64_t keys, int64_t values) {
  return (Chunk(nullptr, chunk, keys, values).used + 15) / 16 * 16;
}

// Runs every task; worker w has the w-th part of the scratch. A result does not depend on who computes it.
template <typename Task>
static void share(const Sizes& n, float* scratch, int64_t threads, Task run) {
  int64_t part = KERNEL(memory_scratch)(n.chunk, n.keys, n.values);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t worker = 0; worker < threads; worker++)
    for (int64_t task = worker; task < n.tasks(); task += threads) run(task, scratch + worker * part);
}

// tokens: q, k, v, o and Y. Without `states` nothing is kept for a backward pass.
EXPORT void KERNEL(memory_forward)(const Tokens* tokens, const float* g, const float* eta, const float* state,
                                   float* last, float* states, float* scratch, int64_t rows, int64_t length,
                                   int64_t heads, int64_t keys, int64_t values, int64_t chunk,
                                   int64_t threads) {
  Sizes n{rows, length, heads, keys, values, chunk};
  share(n, scratch, threads, [&](int64_t task, float* memory) {
    forward(n, task, tokens, g, eta, state, last, states, memory);
  });
}

// tokens: q, k, v, O′, Y, and the results Q′, K′, V′.
EXPORT void KERNEL(memory_backward)(const Tokens* tokens, const float* g, const float* eta, const float* states,
                                    const float* last_grad, float* g_grad, float* eta_grad, float* first_grad,
                                    float* scratch, int64_t rows, int64_t length, int64_t heads, int64_t keys,
                                    int64_t values, int64_t chunk, int64_t threads) {
  Sizes n{rows, length, heads, keys, values, chunk};
  share(n, scratch, threads, [&](int64_t task, float* memory) {
    backward(n, task, tokens, g, eta, states, last_grad, g_grad, eta_grad, first_grad, memory);
  });
}
