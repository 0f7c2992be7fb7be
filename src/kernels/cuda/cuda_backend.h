// CudaBackend: the ops on an NVIDIA GPU of compute capability 8.0 or later, one file an op.
//
// docs/decisions/cuda.md says how memory, streams and precision are dealt with. What an op has no kernel for (shapes
// that no model has) runs on the CPU, on copies: the base class does that.
//
// Thread-safety: as Backend's. Each thread has a stream and scratch memory of its own (context.h); data that threads
// share must be complete (finish()) before another thread uses it.
#pragma once

#include "kernels/cuda/memory.h"
#include "kernels/staged_backend.h"

namespace molt {

class CudaBackend final : public StagedBackend {
 public:
  /// With which precision scans multiply matrices: f32, or bf16 as products with bf16 weights do.
  explicit CudaBackend(DType precision = DType::f32);

  std::string_view name() const override { return "cuda"; }
  const Memory& memory() const override { return cuda::device_memory(); }
  void finish() const override;
  void finish_all() const override;
  std::shared_ptr<const Backend> suited_to(DType dtype) const override;
  std::unique_ptr<Recording> record(const std::function<void()>& work) const override;
  bool records() const override { return true; }

  std::unique_ptr<PackedMatrix> pack(const Tensor& weight, DType dtype) const override;
  std::unique_ptr<PackedMatrix> pack(const QuantizedMatrix& weight) const override;
  void matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
              std::int64_t first_out) const override;
  bool looks_up(const PackedMatrix& packed, DType dtype) const override;
  void embed(const Tensor& table, std::span<const TokenId> ids, Matrix<float> y) const override;
  void embed(const PackedMatrix& table, std::span<const TokenId> ids, Matrix<float> y) const override;
  void rms_norm(Matrix<const float> x, const float* weight, float eps, Matrix<float> y) const override;
  void add_rms_norm(Matrix<float> residual, Matrix<const float> h, const float* weight, float eps,
                    Matrix<float> y) const override;
  void gated_rms_norm(Matrix<const float> x, Matrix<const float> z, const float* weight, float eps, std::int64_t group,
                      bool norm_before_gate, Matrix<float> y) const override;
  void silu_gate(Matrix<const float> x, Matrix<const float> z, Matrix<float> y) const override;
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
  DType precision_;
};

}  // namespace molt
