// StagedBackend: runs another backend's ops on copies of their arguments.
//
// The arguments lie in one memory, the copies in that of the backend that runs the ops; what they write is copied back.
// "staged:cuda" lets a device's ops be called on memory of the host, as the tests do that all backends share. A
// device's backend derives from one around the CPU's, which runs what it has no kernel for.
//
// Slow, and one op at a time: a lock is held. Copies keep the arguments' strides and their alignment within a cache
// line; or, "aligned:cuda", their rows begin at cache lines, as those of arenas do, for which kernels have other ways.
// Arguments that are the same matrix stay the same.
#pragma once

#include <memory>
#include <mutex>

#include "kernels/backend.h"
#include "tensor/arena.h"

namespace molt {

class StagedBackend : public Backend {
 public:
  /// `outside`: where arguments lie; must outlive this. One of the two memories is the host's.
  /// `aligned`: the copies' rows begin at cache lines.
  StagedBackend(std::shared_ptr<const Backend> inner, const Memory& outside, bool aligned = false);

  std::string_view name() const override { return inner_->name(); }
  const Memory& memory() const override { return outside_; }
  std::shared_ptr<const Backend> suited_to(DType dtype) const override {
    auto suited = inner_->suited_to(dtype);
    return suited == nullptr ? nullptr : std::make_shared<StagedBackend>(std::move(suited), outside_, aligned_);
  }
  std::unique_ptr<PackedMatrix> pack(const Tensor& weight, DType dtype) const override {
    return inner_->pack(weight, dtype);
  }
  std::unique_ptr<PackedMatrix> pack(const QuantizedMatrix& weight) const override { return inner_->pack(weight); }
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
  void rope(Matrix<float> x, std::int64_t heads, std::span<const double> frequencies, bool interleaved, Offsets offsets,
            std::span<const std::int64_t> first) const override;
  /// Caches are host memory wherever the rest lies: they are passed on.
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
  class Call;

  std::shared_ptr<const Backend> inner_;
  const Memory& outside_;
  bool aligned_;
  mutable std::mutex mutex_;
  mutable Arena copies_;
};

}  // namespace molt
