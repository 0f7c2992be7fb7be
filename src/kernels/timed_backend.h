// TimedBackend: another backend's ops, each timed, with the bytes and FLOPs that it takes at the least.
//
// make_backend("timed:cpu") makes one around the backend of that name. What it computes is the same, bit for bit; who
// does not ask for it pays nothing for it.
//
// Thread-safety: as Backend's. The totals are behind a lock; ops that run at the same time each count their own time.
#pragma once

#include <array>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace molt {

/// What an op must do at the least. Bytes: every input and output once, what is changed in place twice, weights as they
/// are packed. FLOPs: additions, multiplications, comparisons and divisions of the plain form of the op, where an
/// exponential counts as the operations of its polynomial (ssd: those of the recurrence, however it is computed).
struct OpCost {
  double bytes = 0;
  double flops = 0;
};

/// All calls of one op at one shape.
struct OpTotal {
  std::string op;     // as the Backend's method: "matmul"
  std::string shape;  // without the rows: "768 -> 3352", "1536 x 16"
  std::int64_t calls = 0;
  double seconds = 0;
  OpCost cost;
};

class TimedBackend final : public Backend {
 public:
  explicit TimedBackend(std::shared_ptr<const Backend> timed) : timed_(std::move(timed)) {}

  /// What ran since the last call of this, in the order of the first calls. Counting starts anew.
  std::vector<OpTotal> take_totals() const;

  std::string_view name() const override { return timed_->name(); }
  const Memory& memory() const override { return timed_->memory(); }
  std::int64_t rows_at_once() const override { return timed_->rows_at_once(); }
  void finish() const override { timed_->finish(); }
  void finish_all() const override { timed_->finish_all(); }
  bool looks_up(const PackedMatrix& packed, DType dtype) const override { return timed_->looks_up(packed, dtype); }
  std::shared_ptr<const Backend> suited_to(DType dtype) const override {
    auto suited = timed_->suited_to(dtype);
    return suited == nullptr ? nullptr : std::make_shared<TimedBackend>(std::move(suited));
  }
  std::unique_ptr<PackedMatrix> pack(const Tensor& weight, DType dtype) const override {
    return timed_->pack(weight, dtype);
  }
  std::unique_ptr<PackedMatrix> pack(const QuantizedMatrix& weight) const override { return timed_->pack(weight); }
  void matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
              std::int64_t first_out) const override;
  void embed(const Tensor& table, std::span<const TokenId> ids, Matrix<float> y) const override;
  void embed(const PackedMatrix& table, std::span<const TokenId> ids, Matrix<float> y) const override;
  void rms_norm(Matrix<const float> x, const float* weight, float eps, Matrix<float> y) const override;
  void add_rms_norm(Matrix<float> residual, Matrix<const float> h, const float* weight, float eps,
                    Matrix<float> y) const override;
  void gated_rms_norm(Matrix<const float> x, Matrix<const float> z, const float* weight, float eps, std::int64_t group,
                      bool norm_before_gate, Matrix<float> y) const override;
  void layer_norm(Matrix<const float> x, const float* weight, const float* bias, float eps,
                  Matrix<float> y) const override;
  void silu_gate(Matrix<const float> x, Matrix<const float> z, Matrix<float> y) const override;
  void relu(Matrix<const float> x, Matrix<float> y) const override;
  void softplus(Matrix<const float> x, const float* bias, float low, float high, Matrix<float> y) const override;
  void causal_conv(Matrix<const float> x, Matrix<const float> weight, const float* bias, Offsets offsets,
                   std::span<float* const> states, Matrix<float> y) const override;
  void add_rows(Matrix<const float> x, Matrix<const float> h, Matrix<float> y) const override;
  void selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A, Matrix<const float> B,
                      Matrix<const float> C, const float* D, const ScanRows& rows, Matrix<float> y) const override;
  void ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A, Matrix<const float> B,
           Matrix<const float> C, std::int64_t groups, std::span<const float> D, const ScanRows& rows,
           Matrix<float> y) const override;
  bool mamba1_layer(const Mamba1Layer& layer, const LayerStream& stream, std::span<float* const> conv_states,
                    const ScanRows& rows, Arena& arena) const override;
  bool mamba2_layer(const Mamba2Layer& layer, const LayerStream& stream, std::span<float* const> conv_states,
                    const ScanRows& rows, Arena& arena, Matrix<float> scan_y) const override;
  void rope(Matrix<float> x, std::int64_t heads, std::span<const double> frequencies, bool interleaved, Offsets offsets,
            std::span<const std::int64_t> first) const override;
  void attention(Matrix<const float> q, Matrix<const float> k, Matrix<const float> v, const KvShape& kv, float scale,
                 Offsets offsets, std::span<const KvSequence> caches, Matrix<float> y) const override;
  void selective_scan_contribution(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                   Matrix<const float> B, const float* m, Offsets offsets, float* c) const override;
  void ssd_contribution(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A, Matrix<const float> B,
                        std::int64_t groups, const float* m, Offsets offsets, float* c) const override;
  void log_sum_exp(Matrix<const float> x, double* sums) const override;
  void divergence(Matrix<const float> p, Matrix<const float> q, double* sums) const override;
  void importance(Matrix<const float> y, Importance metric, float* scores) const override;
  void best_match(Matrix<const float> x, std::span<const std::int64_t> sources, std::span<const std::int64_t> targets,
                  bool later_only, std::int64_t* match, float* similarity) const override;
  void best_matches(Matrix<const float> x, std::span<const MatchSearch> searches, bool later_only) const override;
  void gather_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const override;
  void copy_columns(Matrix<const float> x, std::span<const ColumnRun> runs, Matrix<float> y) const override;
  void scatter_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const override;
  void merge_rows(Matrix<float> x, std::span<const RowMerge> merges, const float* weights) const override;

 private:
  using Extents = std::array<std::int64_t, 3>;  // zeros behind the last
  struct Entry {
    const char* op;
    Extents extents;
    OpTotal total;
  };

  /// Runs `work` and counts it.
  template <class Work>
  void time(const char* op, const Extents& extents, const OpCost& cost, Work work) const;
  /// The same of work that says whether it has been done; returns that.
  template <class Work>
  bool time_if_done(const char* op, const Extents& extents, const OpCost& cost, Work work) const;
  void count(const char* op, const Extents& extents, const OpCost& cost, double seconds) const;

  std::shared_ptr<const Backend> timed_;
  mutable std::mutex mutex_;
  mutable std::vector<Entry> entries_;  // a dozen: searched from the start
};

}  // namespace molt
