// RehearsalBackend: ops that do nothing, on memory that is only counted: what a run will need, before it is run.
//
// "rehearse:NAME" is one for the backend of that name, needs no device, and packs weights into as many bytes as that
// one does. A model loaded on it goes through the same code as on the other, which asks for the same memory. Its logits
// and states hold nothing, so token reduction, which looks at them, cannot be rehearsed here (Reduction::rehearse).
//
// Thread-safe.
#pragma once

#include <atomic>

#include "kernels/backend.h"

namespace molt {

/// Hands out addresses without anything behind them.
class CountedMemory final : public Memory {
 public:
  bool is_host() const override { return false; }
  std::shared_ptr<std::byte> allocate(std::int64_t bytes) const override;
  void upload(const std::byte* /*host*/, std::byte* /*to*/, std::int64_t /*bytes*/) const override {}
  void download(const std::byte* /*from*/, std::byte* host, std::int64_t bytes) const override;
  void copy(const std::byte* /*from*/, std::byte* /*to*/, std::int64_t /*bytes*/) const override {}
  void clear(std::byte* /*to*/, std::int64_t /*bytes*/) const override {}

  /// Bytes that are handed out now.
  std::int64_t held() const { return count_->now; }

  /// Bytes that were held at once, at the most, since the last reset_peak().
  std::int64_t peak() const { return count_->peak; }
  void reset_peak() const { count_->peak = count_->now.load(); }

 private:
  struct Count {
    std::atomic<std::int64_t> now = 0, peak = 0;
  };
  std::shared_ptr<Count> count_ = std::make_shared<Count>();  // what is handed out may outlive this
};

class RehearsalBackend : public Backend {
 public:
  std::string_view name() const override { return "rehearsal"; }
  const CountedMemory& memory() const override { return memory_; }

  /// Bytes that ops need beside their arguments, at the most, and that the backend takes in any case.
  virtual std::int64_t own_bytes() const { return 0; }

  std::unique_ptr<PackedMatrix> pack(const Tensor& weight, DType dtype) const override;
  std::unique_ptr<PackedMatrix> pack(const QuantizedMatrix& weight) const override;
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
  void gather_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const override;
  void copy_columns(Matrix<const float> x, std::span<const ColumnRun> runs, Matrix<float> y) const override;
  void scatter_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const override;
  void merge_rows(Matrix<float> x, std::span<const RowMerge> merges, const float* weights) const override;

 private:
  /// Bytes of a packed matrix of N outputs and K inputs.
  virtual std::int64_t packed_bytes(std::int64_t N, std::int64_t K, DType dtype) const;
  /// The same where they depend on the weights.
  virtual std::int64_t packed_bytes(const Tensor& weight, DType dtype) const;
  virtual std::int64_t packed_bytes(const QuantizedMatrix& weight) const;

  CountedMemory memory_;
};

/// What a backend's folder registers beside its BackendFactory: Registration<RehearsalFactory>.
using RehearsalFactory = std::shared_ptr<const RehearsalBackend> (*)();

}  // namespace molt
