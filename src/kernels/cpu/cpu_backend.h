// CpuBackend: the ops on vectors and threads, one file an op.
//
// An op here knows shapes and deals the work out to threads; its inner loops are in isa/, compiled once per instruction
// set and chosen at run time (select.h). Work is split by the data alone, never by the number of threads, and how a row
// or a sequence is computed depends on that row or sequence alone: results are the same bits for any number of threads
// and in any batch.
//
// Thread-safety: as Backend's. Scratch memory is thread_local and kept between calls.
#pragma once

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/pair_panels.h"
#include "kernels/cpu/quantized_matmul.h"
#include "kernels/reference/reference_backend.h"

namespace molt {

class CpuBackend : public ReferenceBackend {
 public:
  /// rounds_scans: whether the dual scan may multiply in bfloat16, as suited_to() has it.
  explicit CpuBackend(bool rounds_scans = false) : rounds_scans_(rounds_scans) {}

  std::string_view name() const override { return "cpu"; }
  std::shared_ptr<const Backend> suited_to(DType dtype) const override {
    return dtype == DType::bf16 ? std::make_shared<CpuBackend>(true) : nullptr;
  }

  /// Measured (docs/benchmarks/row-slices.md). The same for any number of threads, as results are to be.
  std::int64_t rows_at_once() const override { return 256; }

  std::unique_ptr<PackedMatrix> pack(const Tensor& weight, DType dtype) const override {
    if (dtype == DType::bf16) {
      if (auto pairs = pack_pairs(weight)) return pairs;
    }
    return pack_panels(weight, dtype);
  }
  std::unique_ptr<PackedMatrix> pack(const QuantizedMatrix& weight) const override {
    return std::make_unique<QuantizedPanels>(weight);
  }
  void matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
              std::int64_t first_out) const override {
    if (const auto* quantized = dynamic_cast<const QuantizedPanels*>(&w)) {
      quantized_matmul(x, *quantized, bias, y, first_out);
    } else if (const auto* pairs = dynamic_cast<const PairPanels*>(&w)) {
      pair_matmul(x, *pairs, bias, y, first_out);
    } else {
      panel_matmul(x, w, bias, y, first_out);
    }
  }
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
  bool rounds_scans_;
};

}  // namespace molt
