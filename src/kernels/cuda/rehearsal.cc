// What the CUDA backend will need of the device's memory, found out without a device.
#include <algorithm>

#include "base/registry.h"
#include "kernels/cuda/capture.h"
#include "kernels/cuda/coded_rows.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/mamba1_layer.h"
#include "kernels/cuda/mamba2_layer.h"
#include "kernels/cuda/mamba2_step.h"
#include "kernels/cuda/match_groups.h"
#include "kernels/cuda/scan_cut.h"
#include "kernels/cuda/scratch.h"
#include "kernels/rehearsal_backend.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// What the driver takes for a program and its kernels, as measured on an H100 (docs/benchmarks/cuda.md).
constexpr std::int64_t kDriverBytes = std::int64_t{600} << 20;

/// Multiprocessors of an H100 or H200.
constexpr int kProcessors = 132;

/// The memory that a recorded step keeps.
class CountedRecording final : public Recording {
 public:
  CountedRecording(const Memory& memory, std::int64_t bytes) : room_(memory.allocate(bytes)) {}
  void replay(std::span<const TokenId> /*ids*/) override {}

 private:
  std::shared_ptr<std::byte> room_;
};

class CudaRehearsal final : public RehearsalBackend {
 public:
  explicit CudaRehearsal(DType precision) : precision_(precision) {}

  std::shared_ptr<const Backend> suited_to(DType dtype) const override {
    return dtype == precision_ ? nullptr : std::make_shared<CudaRehearsal>(dtype);
  }

  std::int64_t own_bytes() const override {
    const std::int64_t beside = beside_ > 0 ? beside_ + cuda::Context::kFixedBytes : 0;
    return scratch_ + cuda::Context::kFixedBytes + beside + kDriverBytes;
  }

  bool records() const override { return true; }
  std::unique_ptr<Recording> record(const std::function<void()>& work) const override {
    const std::int64_t others = scratch_.exchange(0);
    work();
    const std::int64_t own = scratch_.exchange(others);
    return std::make_unique<CountedRecording>(memory(), cuda::Capture::kFixedBytes + own);
  }

  bool looks_up(const PackedMatrix& packed, DType dtype) const override {
    return cuda::holds_exactly(packed.dtype(), dtype);
  }

  void matmul(Matrix<const float> x, const PackedMatrix& w, const float* /*bias*/, Matrix<float> y,
              std::int64_t /*first_out*/) const override {
    if (is_coded(w)) {
      if (x.rows <= cuda::kMostCodedRows) return;
      const std::int64_t padded = cuda::padded_inputs(w.in_features(), DType::bf16);
      need(cuda::aligned_scratch(cuda::product_scratch(x.rows, padded, DType::bf16)) +
           cuda::widened_scratch(y.cols, w.in_features()));
      return;
    }
    const DType stored = w.dtype() == DType::u8 ? precision_ : w.dtype();
    need(cuda::product_scratch(x.rows, cuda::padded_inputs(w.in_features(), stored), stored));
  }

  void selective_scan(Matrix<const float> x, Matrix<const float> /*dt*/, Matrix<const float> /*A*/,
                      Matrix<const float> /*B*/, Matrix<const float> /*C*/, const float* /*D*/, const ScanRows& rows,
                      Matrix<float> /*y*/) const override {
    const cuda::ScanCut cut(rows.offsets, x.cols, kProcessors);
    need(cut.bytes(x.cols));
  }

  void ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A, Matrix<const float> B,
           Matrix<const float> /*C*/, std::int64_t groups, std::span<const float> /*D*/, const ScanRows& /*rows*/,
           Matrix<float> /*y*/) const override {
    need(cuda::ssd_scratch(x.rows, shapes::check_ssd(x, dt, A, B, groups), precision_));
  }

  bool mamba1_layer(const Mamba1Layer& layer, const LayerStream& stream, std::span<float* const> /*conv_states*/,
                    const ScanRows& rows, Arena& arena) const override {
    if (precision_ != DType::bf16 || !cuda::fits_mamba1_layer(layer, stream, rows)) return false;
    const std::int64_t total = rows.offsets.back();
    if (total < cuda::kLeastLayerRows) {
      const cuda::Mamba1StepRoom room(layer, total, arena);
      return true;
    }
    const cuda::Mamba1Room room(layer, total, arena);
    const cuda::ScanCut cut(rows.offsets, room.inner, kProcessors);
    need(cut.bytes(room.inner));
    for (const PackedMatrix* w : {layer.in_proj, layer.x_proj, layer.dt_proj, layer.out_proj}) {
      if (is_coded(*w)) need(cuda::widened_scratch(w->out_features(), w->in_features()));
    }
    return true;
  }

  /// As on compute capability 9.0; older devices need more.
  bool mamba2_layer(const Mamba2Layer& layer, const LayerStream& stream, std::span<float* const> /*conv_states*/,
                    const ScanRows& rows, Arena& arena, Matrix<float> scan_y) const override {
    if (precision_ != DType::bf16 || rows.wanted != nullptr || !cuda::fits_mamba2_layer(layer, stream, rows)) {
      return false;
    }
    if (rows.offsets.back() < cuda::kLeastLayerRows) {
      if (scan_y.data != nullptr) return false;
      const cuda::StepRoom room(layer, rows.offsets.back(), arena);
      return true;
    }
    const cuda::LayerRoom room(layer, rows.offsets.back(), arena);
    need(cuda::ssd_sums_scratch(rows.offsets.back(), room.shape.heads, room.shape.groups));
    for (const PackedMatrix* w : {layer.in_proj, layer.out_proj}) {
      if (is_coded(*w)) need(cuda::widened_scratch(w->out_features(), w->in_features()));
    }
    return true;
  }

  void best_match(Matrix<const float> x, std::span<const std::int64_t> sources, std::span<const std::int64_t> targets,
                  bool later_only, std::int64_t* match, float* similarity) const override {
    const MatchSearch search{0, sources, targets, match, similarity};
    best_matches(x, {&search, 1}, later_only);
  }

  void best_matches(Matrix<const float> x, std::span<const MatchSearch> searches, bool later_only) const override {
    need(cuda::MatchGroups(searches, x.cols, precision_).bytes(), beside_);
    for (const MatchSearch& search : searches) {
      RehearsalBackend::best_match(x.row_range(search.first, x.rows), search.sources, search.targets, later_only,
                                   search.match, search.similarity);
    }
  }

 private:
  static std::int64_t dense_bytes(std::int64_t N, std::int64_t K, DType dtype) {
    return N * cuda::padded_inputs(K, dtype) * size_of(dtype);
  }
  /// Whether `w`, which one of the functions below counted, is packed as CodedRows.
  static bool is_coded(const PackedMatrix& w) {
    return w.dtype() != DType::f32 && w.bytes() < dense_bytes(w.out_features(), w.in_features(), DType::bf16);
  }

  std::int64_t packed_bytes(std::int64_t N, std::int64_t K, DType dtype) const override {
    return dense_bytes(N, K, dtype);
  }
  std::int64_t packed_bytes(const Tensor& weight, DType dtype) const override {
    const auto size = dtype == DType::bf16 ? cuda::coded_size(weight) : std::nullopt;
    return size ? size->bytes() : dense_bytes(weight.shape()[0], weight.shape()[1], dtype);
  }
  std::int64_t packed_bytes(const QuantizedMatrix& weight) const override {
    const auto size = cuda::coded_size(weight);
    return size ? size->bytes() : dense_bytes(weight.out_features(), weight.in_features(), precision_);
  }

  static void need(std::int64_t bytes, std::atomic<std::int64_t>& memory) {
    std::int64_t most = memory;
    while (most < bytes && !memory.compare_exchange_weak(most, bytes)) {
    }
  }
  void need(std::int64_t bytes) const { need(bytes, scratch_); }

  DType precision_;
  mutable std::atomic<std::int64_t> scratch_ = 0;
  mutable std::atomic<std::int64_t> beside_ = 0;  // of measures (Context::to_measure)
};

const Registration<RehearsalFactory> registration{
    "cuda", [] { return std::shared_ptr<const RehearsalBackend>(std::make_shared<CudaRehearsal>(DType::f32)); }};

}  // namespace
}  // namespace molt
