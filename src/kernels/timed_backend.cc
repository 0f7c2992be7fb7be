#include "kernels/timed_backend.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/fail.h"

namespace molt {
namespace {

constexpr double kFloat = 4, kDouble = 8;  // bytes

// Operations of one value, as kernels/cpu/isa/vec_math.h computes them.
constexpr double kExp = 22;
constexpr double kDecay = 15;  // exp2_decay
constexpr double kSilu = 25;
constexpr double kSoftplus = 39;

double real(std::int64_t n) {
  return static_cast<double>(n);
}

double elements(Matrix<const float> m) {
  return real(m.rows) * real(m.cols);
}

std::string describe(const char* op, const std::array<std::int64_t, 3>& extents) {
  const char* separator = std::strcmp(op, "matmul") == 0 ? " -> " : " x ";
  const auto end = std::find(extents.begin(), extents.end(), 0);
  return fmt::format("{}", fmt::join(extents.begin(), end, separator));
}

/// Pairs of a source and a target that counts for it.
double pairs(std::span<const std::int64_t> sources, std::span<const std::int64_t> targets, bool later_only) {
  if (!later_only) return real(std::ssize(sources)) * real(std::ssize(targets));
  double count = 0;
  for (const std::int64_t source : sources) {
    count += real(targets.end() - std::upper_bound(targets.begin(), targets.end(), source));
  }
  return count;
}

/// States that a scan goes through, those in bfloat16 counting half.
double states_of(const ScanRows& rows) {
  return real(std::ssize(rows.states)) + 0.5 * real(std::ssize(rows.rounded));
}

}  // namespace

template <class Work>
void TimedBackend::time(const char* op, const Extents& extents, const OpCost& cost, Work work) const {
  time_if_done(op, extents, cost, [&] {
    work();
    return true;
  });
}

template <class Work>
bool TimedBackend::time_if_done(const char* op, const Extents& extents, const OpCost& cost, Work work) const {
  const auto start = std::chrono::steady_clock::now();
  if (!work()) return false;
  timed_->finish();
  count(op, extents, cost, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return true;
}

void TimedBackend::count(const char* op, const Extents& extents, const OpCost& cost, double seconds) const {
  const std::lock_guard lock(mutex_);
  auto entry = std::find_if(entries_.begin(), entries_.end(),
                            [&](const Entry& e) { return e.extents == extents && std::strcmp(e.op, op) == 0; });
  if (entry == entries_.end()) entry = entries_.insert(entry, {op, extents, {op, describe(op, extents), 0, 0, {}}});
  OpTotal& total = entry->total;
  ++total.calls;
  total.seconds += seconds;
  total.cost.bytes += cost.bytes;
  total.cost.flops += cost.flops;
}

std::vector<OpTotal> TimedBackend::take_totals() const {
  const std::lock_guard lock(mutex_);
  std::vector<OpTotal> totals;
  for (Entry& entry : entries_) totals.push_back(std::move(entry.total));
  entries_.clear();
  return totals;
}

void TimedBackend::matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
                          std::int64_t first_out) const {
  const double weights = real(w.bytes()) * real(y.cols) / real(w.out_features());
  const double vectors = elements(x) + elements(y) + (bias == nullptr ? 0 : real(y.cols));
  time("matmul", {w.in_features(), y.cols}, {weights + kFloat * vectors, 2 * elements(x) * real(y.cols)},
       [&] { timed_->matmul(x, w, bias, y, first_out); });
}

void TimedBackend::embed(const Tensor& table, std::span<const TokenId> ids, Matrix<float> y) const {
  const auto stored = static_cast<double>(size_of(table.dtype()));
  time("embed", {y.cols}, {(stored + kFloat) * elements(y), 0}, [&] { timed_->embed(table, ids, y); });
}

void TimedBackend::embed(const PackedMatrix& table, std::span<const TokenId> ids, Matrix<float> y) const {
  const double stored = real(table.bytes()) / (real(table.out_features()) * real(table.in_features()));
  time("embed", {y.cols}, {(stored + kFloat) * elements(y), 0}, [&] { timed_->embed(table, ids, y); });
}

void TimedBackend::rms_norm(Matrix<const float> x, const float* weight, float eps, Matrix<float> y) const {
  time("rms_norm", {x.cols}, {kFloat * (2 * elements(x) + real(x.cols)), 4 * elements(x)},
       [&] { timed_->rms_norm(x, weight, eps, y); });
}

void TimedBackend::add_rms_norm(Matrix<float> residual, Matrix<const float> h, const float* weight, float eps,
                                Matrix<float> y) const {
  time("add_rms_norm", {h.cols}, {kFloat * (4 * elements(h) + real(h.cols)), 5 * elements(h)},
       [&] { timed_->add_rms_norm(residual, h, weight, eps, y); });
}

void TimedBackend::gated_rms_norm(Matrix<const float> x, Matrix<const float> z, const float* weight, float eps,
                                  std::int64_t group, bool norm_before_gate, Matrix<float> y) const {
  time("gated_rms_norm", {x.cols}, {kFloat * (3 * elements(x) + real(x.cols)), (kSilu + 5) * elements(x)},
       [&] { timed_->gated_rms_norm(x, z, weight, eps, group, norm_before_gate, y); });
}

void TimedBackend::layer_norm(Matrix<const float> x, const float* weight, const float* bias, float eps,
                              Matrix<float> y) const {
  time("layer_norm", {x.cols}, {kFloat * (2 * elements(x) + 2 * real(x.cols)), 7 * elements(x)},
       [&] { timed_->layer_norm(x, weight, bias, eps, y); });
}

void TimedBackend::silu_gate(Matrix<const float> x, Matrix<const float> z, Matrix<float> y) const {
  time("silu_gate", {x.cols}, {kFloat * 3 * elements(x), (kSilu + 1) * elements(x)},
       [&] { timed_->silu_gate(x, z, y); });
}

void TimedBackend::relu(Matrix<const float> x, Matrix<float> y) const {
  time("relu", {x.cols}, {kFloat * 2 * elements(x), elements(x)}, [&] { timed_->relu(x, y); });
}

void TimedBackend::softplus(Matrix<const float> x, const float* bias, float low, float high, Matrix<float> y) const {
  time("softplus", {x.cols}, {kFloat * (2 * elements(x) + real(x.cols)), (kSoftplus + 3) * elements(x)},
       [&] { timed_->softplus(x, bias, low, high, y); });
}

void TimedBackend::causal_conv(Matrix<const float> x, Matrix<const float> weight, const float* bias, Offsets offsets,
                               std::span<float* const> states, Matrix<float> y) const {
  const double state = 2 * real(std::ssize(states)) * real((weight.rows - 1) * x.cols);
  const double vectors = 2 * elements(x) + elements(weight) + state + (bias == nullptr ? 0 : real(x.cols));
  time("causal_conv", {x.cols, weight.rows}, {kFloat * vectors, (2 * real(weight.rows) + kSilu) * elements(x)},
       [&] { timed_->causal_conv(x, weight, bias, offsets, states, y); });
}

void TimedBackend::selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                  Matrix<const float> B, Matrix<const float> C, const float* D, const ScanRows& rows,
                                  Matrix<float> y) const {
  const double state = 2 * states_of(rows) * elements(A);
  const double vectors = 3 * elements(x) + elements(A) + 2 * elements(B) + state + (D == nullptr ? 0 : real(x.cols));
  // Of a state: the exponent, the decay, the input's product, two multiply-adds; of a channel: dt x, D x, the exponent.
  const double flops = elements(x) * (real(A.rows) * (kDecay + 6) + 3);
  time("selective_scan", {x.cols, A.rows}, {kFloat * vectors, flops},
       [&] { timed_->selective_scan(x, dt, A, B, C, D, rows, y); });
}

void TimedBackend::ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A, Matrix<const float> B,
                       Matrix<const float> C, std::int64_t groups, std::span<const float> D, const ScanRows& rows,
                       Matrix<float> y) const {
  const std::int64_t heads = std::ssize(A);
  const std::int64_t states = B.cols / groups;
  const double state = 2 * states_of(rows) * real(x.cols * states);
  const double vectors = 2 * elements(x) + elements(dt) + 2 * elements(B) + state + real(std::ssize(D));
  time("ssd", {heads, x.cols / heads, states}, {kFloat * vectors, 5 * elements(x) * real(states)},
       [&] { timed_->ssd(x, dt, A, B, C, groups, D, rows, y); });
}

bool TimedBackend::mamba1_layer(const Mamba1Layer& layer, const LayerStream& stream,
                                std::span<float* const> conv_states, const ScanRows& rows, Arena& arena) const {
  // The stream in and out, weights and states; products, the scan's recurrence, and little else.
  const double inner = real(layer.A.cols), states = real(layer.A.rows);
  double bytes = kFloat * (2 * elements(stream.residual) + 2 * states_of(rows) * inner * states);
  double flops_a_row = inner * (7 * states + 2 * real(layer.conv_weight.rows) + 2 * kSilu + kSoftplus);
  for (const PackedMatrix* w : {layer.in_proj, layer.x_proj, layer.dt_proj, layer.out_proj}) {
    bytes += real(w->bytes());
    flops_a_row += 2 * real(w->out_features()) * real(w->in_features());
  }
  return time_if_done("mamba1_layer", {stream.residual.cols, layer.A.cols},
                      {bytes, real(stream.residual.rows) * flops_a_row},
                      [&] { return timed_->mamba1_layer(layer, stream, conv_states, rows, arena); });
}

bool TimedBackend::mamba2_layer(const Mamba2Layer& layer, const LayerStream& stream,
                                std::span<float* const> conv_states, const ScanRows& rows, Arena& arena,
                                Matrix<float> scan_y) const {
  // The stream in and out, weights and states; products, the scan's recurrence, and little else.
  const double inner = real(std::ssize(layer.D)), conv = real(layer.conv_weight.cols);
  const double states = (conv - inner) / real(2 * layer.groups);
  const double bytes = kFloat * (2 * elements(stream.residual) + 2 * states_of(rows) * inner * states) +
                       real(layer.in_proj->bytes() + layer.out_proj->bytes());
  double flops_a_row = inner * 5 * states + conv * (2 * real(layer.conv_weight.rows) + kSilu) + inner * (kSilu + 4);
  for (const PackedMatrix* w : {layer.in_proj, layer.out_proj}) {
    flops_a_row += 2 * real(w->out_features()) * real(w->in_features());
  }
  return time_if_done("mamba2_layer", {stream.residual.cols, std::ssize(layer.D)},
                      {bytes, real(stream.residual.rows) * flops_a_row},
                      [&] { return timed_->mamba2_layer(layer, stream, conv_states, rows, arena, scan_y); });
}

void TimedBackend::rope(Matrix<float> x, std::int64_t heads, std::span<const double> frequencies, bool interleaved,
                        Offsets offsets, std::span<const std::int64_t> first) const {
  const double turned = real(x.rows * heads) * 2 * real(std::ssize(frequencies));
  time("rope", {heads, x.cols / heads}, {kFloat * 2 * turned, 3 * turned},
       [&] { timed_->rope(x, heads, frequencies, interleaved, offsets, first); });
}

void TimedBackend::attention(Matrix<const float> q, Matrix<const float> k, Matrix<const float> v, const KvShape& kv,
                             float scale, Offsets offsets, std::span<const KvSequence> caches, Matrix<float> y) const {
  const std::int64_t heads = q.cols / kv.head_dim;
  double pairs = 0;   // of a row and a token that it sees
  double tokens = 0;  // whose keys and values are read
  for (std::size_t s = 0; s < caches.size(); ++s) {
    const double rows = real(offsets[s + 1] - offsets[s]);
    if (rows == 0) continue;
    pairs += rows * real(caches[s].tokens) + rows * (rows + 1) / 2;
    tokens += real(caches[s].tokens) + rows;
  }
  const double vectors = 2 * elements(q) + 2 * elements(k) + 2 * (tokens + real(k.rows)) * real(kv.channels());
  // Of a pair and head: two products of P, the exponential, its sum and what it is relative to.
  time("attention", {heads, kv.heads, kv.head_dim},
       {kFloat * vectors, pairs * real(heads) * (4 * real(kv.head_dim) + kExp + 3)},
       [&] { timed_->attention(q, k, v, kv, scale, offsets, caches, y); });
}

void TimedBackend::selective_scan_contribution(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                               Matrix<const float> B, const float* m, Offsets offsets, float* c) const {
  const double vectors = 2 * elements(x) + elements(A) + elements(B) + real(x.rows);
  time("selective_scan_contribution", {x.cols, A.rows},
       {kFloat * vectors, elements(x) * (real(A.rows) * (kDecay + 4) + 5)},
       [&] { timed_->selective_scan_contribution(x, dt, A, B, m, offsets, c); });
}

void TimedBackend::ssd_contribution(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A,
                                    Matrix<const float> B, std::int64_t groups, const float* m, Offsets offsets,
                                    float* c) const {
  const std::int64_t heads = std::ssize(A);
  const double vectors = elements(x) + elements(dt) + elements(B) + real(x.rows);
  time("ssd_contribution", {heads, x.cols / heads, B.cols / groups},
       {kFloat * vectors, 2 * elements(x) + 2 * elements(B) + (kDecay + 6) * elements(dt)},
       [&] { timed_->ssd_contribution(x, dt, A, B, groups, m, offsets, c); });
}

void TimedBackend::log_sum_exp(Matrix<const float> x, double* sums) const {
  time("log_sum_exp", {x.cols}, {kFloat * elements(x) + kDouble * real(x.rows), (kExp + 3) * elements(x)},
       [&] { timed_->log_sum_exp(x, sums); });
}

void TimedBackend::divergence(Matrix<const float> p, Matrix<const float> q, double* sums) const {
  time("divergence", {p.cols}, {kFloat * 2 * elements(p) + kDouble * real(p.rows), (kExp + 3) * elements(p)},
       [&] { timed_->divergence(p, q, sums); });
}

void TimedBackend::importance(Matrix<const float> y, Importance metric, float* scores) const {
  time("importance", {y.cols}, {kFloat * (elements(y) + real(y.rows)), 2 * elements(y)},
       [&] { timed_->importance(y, metric, scores); });
}

void TimedBackend::best_match(Matrix<const float> x, std::span<const std::int64_t> sources,
                              std::span<const std::int64_t> targets, bool later_only, std::int64_t* match,
                              float* similarity) const {
  const double rows = real(std::ssize(sources) + std::ssize(targets));
  time("best_match", {x.cols}, {kFloat * rows * real(x.cols), 2 * pairs(sources, targets, later_only) * real(x.cols)},
       [&] { timed_->best_match(x, sources, targets, later_only, match, similarity); });
}

void TimedBackend::best_matches(Matrix<const float> x, std::span<const MatchSearch> searches, bool later_only) const {
  double rows = 0, products = 0;
  for (const MatchSearch& search : searches) {
    rows += real(std::ssize(search.sources) + std::ssize(search.targets));
    products += pairs(search.sources, search.targets, later_only);
  }
  time("best_matches", {x.cols}, {kFloat * rows * real(x.cols), 2 * products * real(x.cols)},
       [&] { timed_->best_matches(x, searches, later_only); });
}

void TimedBackend::gather_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  time("gather_rows", {x.cols}, {kFloat * 2 * elements(y), 0}, [&] { timed_->gather_rows(x, rows, y); });
}

void TimedBackend::scatter_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  time("scatter_rows", {x.cols}, {kFloat * 2 * elements(x), 0}, [&] { timed_->scatter_rows(x, rows, y); });
}

void TimedBackend::add_rows(Matrix<const float> x, Matrix<const float> h, Matrix<float> y) const {
  time("add_rows", {x.cols}, {kFloat * 3 * elements(x), elements(x)}, [&] { timed_->add_rows(x, h, y); });
}

void TimedBackend::copy_columns(Matrix<const float> x, std::span<const ColumnRun> runs, Matrix<float> y) const {
  std::int64_t columns = 0;
  for (const ColumnRun& run : runs) columns += run.count;
  time("copy_columns", {columns, y.cols}, {kFloat * (real(x.rows) * real(columns) + elements(y)), 0},
       [&] { timed_->copy_columns(x, runs, y); });
}

void TimedBackend::merge_rows(Matrix<float> x, std::span<const RowMerge> merges, const float* weights) const {
  const double moved = real(std::ssize(merges)) * real(x.cols);
  time("merge_rows", {x.cols}, {kFloat * 3 * moved, 3 * moved}, [&] { timed_->merge_rows(x, merges, weights); });
}

}  // namespace molt
