// Backend: the whole table of ops that a model is made of. One header, one contract; an implementation per device.
//
// reference/ implements every op as plain loops in double precision: it is the oracle of the tests and the fallback.
// cpu/ overrides what it makes faster. A new backend is a new folder that registers a factory under its name and
// overrides what it can; whatever it does not override falls back to the reference.
//
// Conventions
//   Where numbers lie: matrices, weights, tables and states in the backend's memory(), which is the host's for backends
//   that run there. What decides about rows lies on the host, for all backends: ids, offsets, row numbers, merges and
//   their weights, `wanted`, `multiplicity`, columns; and so do measures that are decided by, the results that are
//   plain pointers (scores, matches, shares, sums), complete when the op returns. Keys and values lie on the host, too.
//   T rows of a ragged batch lie packed, sequence after sequence; nothing is padded. Ops that mix positions
//   (causal_conv, the scans and their contributions) take the sequences' bounds: `offsets` has S + 1 entries, sequence
//   s owns rows [offsets[s], offsets[s+1]); empty sequences are allowed. All other ops see T independent rows, or take
//   the numbers of the rows that they work on.
//   Per-sequence states are given as one pointer a sequence, so that a batch is gathered from wherever states live.
//   Activations and states are float32, but the states of scans may be bfloat16: they are widened where a call begins,
//   and rounded at random where it ends, once for all of its rows. Matrices are packed by the backend, in float32 or
//   bfloat16, accumulated in float32. Inputs and outputs must not overlap unless an op says so. Shapes are checked once
//   an op, by assertion. Row-wise results do not depend on what other rows or sequences are in the call (on a device:
//   by no more than rounding), nor on the number of threads.
//
// Thread-safety: a backend is immutable after construction; ops may be called from several threads on different data.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string_view>

#include "kernels/kv_cache.h"
#include "kernels/mamba1_layer.h"
#include "kernels/mamba2_layer.h"
#include "kernels/random_rounding.h"
#include "molt/types.h"
#include "tensor/arena.h"
#include "tensor/memory.h"
#include "tensor/quantized_matrix.h"
#include "tensor/tensor.h"

namespace molt {

using Offsets = std::span<const std::int64_t>;

/// How a scan's rows form sequences, and what each row is for.
struct ScanRows {
  Offsets offsets;                      // [S + 1]
  std::span<float* const> states;       // [S]; empty if they are `rounded`
  const float* multiplicity = nullptr;  // [T], or null for ones: how many steps' decay a row stands for
  // [T], or null: all. Rows with 0 only write the state; their y is left undefined.
  const std::uint8_t* wanted = nullptr;
  std::span<const RoundedState> rounded = {};  // [S], the states in bfloat16
  // [S] in the backend's memory, or null: the keys of the rounding instead of theirs, for steps that are recorded
  const std::uint32_t* keys = nullptr;

  std::size_t sequences() const { return offsets.size() - 1; }
};

/// Row `source` goes into row `target`.
struct RowMerge {
  std::int64_t source, target;
};

/// One search of best_matches(): what best_match() takes and gives, rows counted from row `first` of x on.
struct MatchSearch {
  std::int64_t first;
  std::span<const std::int64_t> sources, targets;
  std::int64_t* match;  // [sources]
  float* similarity;    // [sources]
};

/// `count` columns from column `from` on of one matrix, which become those from `to` on of another.
struct ColumnRun {
  std::int64_t from, to, count;
};

/// A weight matrix W [out_features, in_features] in a backend's own layout: the only copy of it that prefill and decode
/// use. Immutable.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;
  virtual std::int64_t out_features() const = 0;
  virtual std::int64_t in_features() const = 0;
  /// f32 or bf16; u8 for a quantized matrix.
  virtual DType dtype() const = 0;
  virtual std::int64_t bytes() const = 0;
};

/// A step that was recorded, to be repeated (Backend::record). One thread at a time.
class Recording {
 public:
  virtual ~Recording() = default;

  /// Repeats the step with these ids, as many as were recorded. Returns before it is done (Backend::finish).
  virtual void replay(std::span<const TokenId> ids) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;

  /// Where its matrices, weights and states lie.
  virtual const Memory& memory() const { return host_memory(); }

  /// How many rows a pass takes through a layer at a time (ModelCore): as many as fit into the caches, with all that
  /// the layer's ops hand from one to the next, where there are such caches.
  virtual std::int64_t rows_at_once() const { return std::numeric_limits<std::int64_t>::max(); }

  /// Returns when all that this thread asked for is done. (Ops of devices may return before.)
  virtual void finish() const {}

  /// Returns when all that any thread had asked for is done.
  virtual void finish_all() const {}

  /// The backend for models whose weights are in `dtype`, on the same device; null: this one. A device may compute
  /// scans with the precision that products with these weights have.
  virtual std::shared_ptr<const Backend> suited_to(DType /*dtype*/) const { return nullptr; }

  /// Records what `work` does, for steps that are short beside what it takes to ask for their ops one by one; null
  /// where that is not done. `work` must have run before, on this thread. It begins with embed(), whose ids differ from
  /// replay to replay, and does the same each time otherwise, in memory that stays. It is not run here.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& /*work*/) const { return nullptr; }

  /// Whether record() does.
  virtual bool records() const { return false; }

  /// Packs `weight` [out_features, in_features] (f32, f16, bf16 or f64; on the host) for matmul, in `dtype` (f32
  /// or bf16).
  virtual std::unique_ptr<PackedMatrix> pack(const Tensor& weight, DType dtype) const = 0;

  /// Packs a quantized matrix (on the host) for matmul and embed.
  virtual std::unique_ptr<PackedMatrix> pack(const QuantizedMatrix& weight) const = 0;

  /// y [T, M] = outputs [first_out, first_out + M) of x [T, K] * W^T (+ bias [N], unless null). W: [N, K]; M is y's
  /// columns, first_out + M <= N. The same bits as of the whole product. A first_out that is no multiple of 64 may be
  /// slower. With bf16 weights x is rounded to bf16 first. With quantized weights a backend may round x, too: row by
  /// row, to 8 bits in blocks of 64 columns (of 32 for groups of 32), each with a scale of its own; or to bf16, and for
  /// many rows the weights as well.
  virtual void matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
                      std::int64_t first_out = 0) const = 0;

  /// y [T, D] = rows `ids` of `table` [V, D] (f32, f16 or bf16; in memory()). Every id lies in [0, V).
  virtual void embed(const Tensor& table, std::span<const TokenId> ids, Matrix<float> y) const = 0;

  /// Whether embed() from `packed` is exact for a table in `dtype` that was packed so: the table itself can go then.
  virtual bool looks_up(const PackedMatrix& /*packed*/, DType /*dtype*/) const { return false; }

  /// The same of a packed `table`: a quantized one, or one of those that looks_up() is true of.
  virtual void embed(const PackedMatrix& table, std::span<const TokenId> ids, Matrix<float> y) const = 0;

  /// y [T, D] = x / sqrt(mean(x^2) + eps) * weight [D] (a null weight means ones). y may be x.
  virtual void rms_norm(Matrix<const float> x, const float* weight, float eps, Matrix<float> y) const = 0;

  /// residual [T, D] += h [T, D]; then y = rms_norm(residual).
  virtual void add_rms_norm(Matrix<float> residual, Matrix<const float> h, const float* weight, float eps,
                            Matrix<float> y) const = 0;

  /// y [T, D] = norm over groups of `group` channels, scaled by weight [D], with the gate z [T, D]:
  ///   norm_before_gate: rms_norm(x) * weight * silu(z);  otherwise: rms_norm(x * silu(z)) * weight.
  /// D is a multiple of `group`. y may be x.
  virtual void gated_rms_norm(Matrix<const float> x, Matrix<const float> z, const float* weight, float eps,
                              std::int64_t group, bool norm_before_gate, Matrix<float> y) const = 0;

  /// y [T, D] = (x - mean) / sqrt(variance + eps) * weight [D] + bias [D], with a row's mean and the mean of its
  /// squared distances from it (Ba et al. 2016). y may be x.
  virtual void layer_norm(Matrix<const float> x, const float* weight, const float* bias, float eps,
                          Matrix<float> y) const = 0;

  /// y [T, D] = x * silu(z). y may be x.
  virtual void silu_gate(Matrix<const float> x, Matrix<const float> z, Matrix<float> y) const = 0;

  /// y [T, D] = max(0, x); a NaN stays one. y may be x.
  virtual void relu(Matrix<const float> x, Matrix<float> y) const = 0;

  /// y [T, D] = min(high, max(low, softplus(x + bias [D]))), null bias meaning zeros; softplus(v) = log(1 + exp(v)).
  /// y may be x.
  virtual void softplus(Matrix<const float> x, const float* bias, float low, float high, Matrix<float> y) const = 0;

  /// Depthwise causal convolution, then SiLU: y[t, c] = silu(bias[c] + sum_k weight[k, c] * x[t - (K-1) + k, c]).
  /// x, y [T, C]; weight [K, C] (taps major: row k holds tap k of every channel); bias [C] or null. states[s]: the last
  /// K-1 inputs of sequence s, [K-1, C], oldest first, read as x[-(K-1)..-1] and left holding the newest. K >= 1.
  virtual void causal_conv(Matrix<const float> x, Matrix<const float> weight, const float* bias, Offsets offsets,
                           std::span<float* const> states, Matrix<float> y) const = 0;

  /// y [T, D] = x + h. y may be x.
  virtual void add_rows(Matrix<const float> x, Matrix<const float> h, Matrix<float> y) const = 0;

  // The scans, along sequences. With ScanRows `rows`: m = rows.multiplicity; rows.states[s] is read and left as after
  // the sequence's last row. Where dt is 0 a row leaves the state as it is, exactly. A row that is not wanted costs
  // less: its C is not used (any finite values), its y is left undefined, all else is the same, bit for bit.

  /// Mamba-1 selective scan (Gu & Dao 2023, algorithm 2), for every channel d and state n:
  ///   H[n, d] <- exp(dt[t, d] * m[t] * A[n, d]) * H[n, d] + dt[t, d] * B[t, n] * x[t, d]
  ///   y[t, d]  = sum_n C[t, n] * H[n, d] + D[d] * x[t, d]
  /// x, dt, y [T, Di]; A [N, Di], negative; B, C [T, N]; D [Di], or null for zeros. State: H [N, Di]. y may be x.
  virtual void selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                              Matrix<const float> B, Matrix<const float> C, const float* D, const ScanRows& rows,
                              Matrix<float> y) const = 0;

  /// Mamba-2 state space dual scan (Dao & Gu 2024, section 6), for every head h of P channels, reading group g of B, C:
  ///   S_h[n, p] <- exp(dt[t, h] * m[t] * A[h]) * S_h[n, p] + dt[t, h] * B[t, g, n] * x[t, h, p]
  ///   y[t, h, p] = sum_n C[t, g, n] * S_h[n, p] + D[h * P + p] * x[t, h, p]
  /// x, y [T, H*P]; dt [T, H]; A [H], negative; B, C [T, G*N], g = h / (H / G); D [H*P] (one value a channel: repeat a
  /// per-head D), or empty for zeros. State: S [H, N, P].
  /// Fast backends compute it in chunks, as matrix products.
  virtual void ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A, Matrix<const float> B,
                   Matrix<const float> C, std::int64_t groups, std::span<const float> D, const ScanRows& rows,
                   Matrix<float> y) const = 0;

  /// A Mamba-1 layer as a whole, where a backend gains by taking its ops together: with rows that pass between them in
  /// the precision of its products, say. False, and nothing is done, where it does not; then it goes op by op. The
  /// stream is changed as `stream` says. `conv_states`: as of causal_conv; `rows`: as of the scan, all wanted. Scratch
  /// memory comes from `arena` and is not given back.
  virtual bool mamba1_layer(const Mamba1Layer& /*layer*/, const LayerStream& /*stream*/,
                            std::span<float* const> /*conv_states*/, const ScanRows& /*rows*/, Arena& /*arena*/) const {
    return false;
  }

  /// The same of a Mamba-2 layer. `scan_y` [T, Di], unless it is null: becomes the scan's y, for who looks at it.
  virtual bool mamba2_layer(const Mamba2Layer& /*layer*/, const LayerStream& /*stream*/,
                            std::span<float* const> /*conv_states*/, const ScanRows& /*rows*/, Arena& /*arena*/,
                            Matrix<float> /*scan_y*/) const {
    return false;
  }

  // Attention, along sequences: what a sequence's rows see of each other and of all that came before them.

  /// Rotary positions (Su et al. 2021), in place: in each of the `heads` of x [T, heads * P] pair i of R =
  /// frequencies.size() is turned by the angle position * frequencies[i] (radians). Pairs are the columns i and i + R
  /// of a head or, interleaved, 2i and 2i + 1; columns from 2R on stay. The rows of sequence s stand at the positions
  /// first[s], first[s] + 1, ...
  virtual void rope(Matrix<float> x, std::int64_t heads, std::span<const double> frequencies, bool interleaved,
                    Offsets offsets, std::span<const std::int64_t> first) const = 0;

  /// Causal attention (Vaswani et al. 2017), H heads of queries in groups that share one of G heads of keys and values
  /// (Ainslie et al. 2023). The rows' k and v are added to their sequence's cache, where the earlier tokens' lie; then,
  /// for the row t at position i of its sequence and every head h, g = h / (H / G):
  ///   y[t, h] = sum_{j <= i} w[j] V[j, g] / sum_{j <= i} w[j],  w[j] = exp(scale * q[t, h] . K[j, g])
  /// q, y [T, H * P]; k, v [T, G * P]; kv: G and P. caches [S]; their `tokens` count those of earlier calls.
  virtual void attention(Matrix<const float> q, Matrix<const float> k, Matrix<const float> v, const KvShape& kv,
                         float scale, Offsets offsets, std::span<const KvSequence> caches, Matrix<float> y) const = 0;

  // How much of a sequence's last state comes from each of its rows: c [T], which sums to 1 over a sequence (to less
  // where nothing was written). The size of what row t wrote is w, with what later rows' decay leaves of it; c is w's
  // share of the sequence's sum, averaged. Exponents are floored at -60. m [T]: multiplicities, or null for ones.
  // Shapes as of the scans.

  /// w[t, d] = dt[t, d] * |x[t, d]| * |B[t] * exp(A[., d] * sum_{s > t} dt[s, d] * m[s])|; mean over channels d.
  virtual void selective_scan_contribution(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                           Matrix<const float> B, const float* m, Offsets offsets, float* c) const = 0;

  /// w[t, h] = dt[t, h] * |x[t, h]| * |B[t, g]| * exp(A[h] * sum_{s > t} dt[s, h] * m[s]); mean over heads h.
  virtual void ssd_contribution(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A,
                                Matrix<const float> B, std::int64_t groups, const float* m, Offsets offsets,
                                float* c) const = 0;

  // What logits say of the next token. V = the columns; no more than float's precision is meant.

  /// sums [T] = log(sum_v exp(x[t, v])), x [T, V]. No finite number where a row holds a NaN or an infinity that counts.
  virtual void log_sum_exp(Matrix<const float> x, double* sums) const = 0;

  /// sums [T] = KL(p || q) = sum_v exp(p[t, v]) * (p[t, v] - q[t, v]) of log-probabilities p, q [T, V].
  virtual void divergence(Matrix<const float> p, Matrix<const float> q, double* sums) const = 0;

  // Token reduction: which rows matter, which are alike, and taking rows out.

  /// scores [T] = the importance of each row of y [T, D], D >= 1. A row that holds a NaN scores NaN.
  virtual void importance(Matrix<const float> y, Importance metric, float* scores) const = 0;

  /// For source i the target row most alike by cosine: match[i] = the j of `targets` with the greatest u_i . u_j, the
  /// first of equals; u = x / max(|x|, 1e-12). similarity[i] = that cosine. `targets` ascends. With later_only only
  /// targets behind the source count. Without any target that counts: -1 and -infinity. A NaN counts as -infinity.
  virtual void best_match(Matrix<const float> x, std::span<const std::int64_t> sources,
                          std::span<const std::int64_t> targets, bool later_only, std::int64_t* match,
                          float* similarity) const = 0;

  /// best_match() of several sequences: the rows of each search lie in x from its `first` on. The same as one by one,
  /// but for rounding; a device is waited for once.
  virtual void best_matches(Matrix<const float> x, std::span<const MatchSearch> searches, bool later_only) const;

  /// y [K, D]: y[i] = x[rows[i]]. y may be x if each row's number is greater than the one before.
  virtual void gather_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const = 0;

  /// y[rows[i]] = x[i] for x [K, D], other rows of y stay. No row is named twice.
  virtual void scatter_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const = 0;

  /// y [T, E] = zeros, but where runs of columns of x [T, D] are copied to. No column of y is named twice.
  virtual void copy_columns(Matrix<const float> x, std::span<const ColumnRun> runs, Matrix<float> y) const = 0;

  /// x[t] = (w[t] * x[t] + sum of w[s] * x[s]) / (w[t] + sum of w[s]) over the merges into t, which add in the order of
  /// the list; the plain mean where the weights sum to 0. weights [T], or null for ones. No source is a target.
  virtual void merge_rows(Matrix<float> x, std::span<const RowMerge> merges, const float* weights) const = 0;
};

/// Makes the backend of that name ("reference", "cpu"), or throws Error that lists the known ones. "timed:NAME" times
/// the ops of the one of that name, "staged:NAME" and "aligned:NAME" run them on copies of arguments that lie on the
/// host, "rehearse:NAME" only counts the memory that they need.
std::shared_ptr<const Backend> make_backend(std::string_view name);

/// What a backend's folder registers: Registration<BackendFactory> registration{"name", make}.
using BackendFactory = std::shared_ptr<const Backend> (*)();

}  // namespace molt
