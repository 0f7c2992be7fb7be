#include "kernels/rehearsal_backend.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "base/registry.h"

namespace molt {
namespace {

class CountedMatrix final : public PackedMatrix {
 public:
  CountedMatrix(const Memory& memory, std::int64_t out, std::int64_t in, DType dtype, std::int64_t bytes)
      : out_(out), in_(in), dtype_(dtype), bytes_(bytes), room_(memory.allocate(bytes)) {}

  std::int64_t out_features() const override { return out_; }
  std::int64_t in_features() const override { return in_; }
  DType dtype() const override { return dtype_; }
  std::int64_t bytes() const override { return bytes_; }

 private:
  std::int64_t out_, in_;
  DType dtype_;
  std::int64_t bytes_;
  std::shared_ptr<std::byte> room_;
};

const Registration<RehearsalFactory> registration{
    "cpu", [] { return std::shared_ptr<const RehearsalBackend>(std::make_shared<RehearsalBackend>()); }};

}  // namespace

std::shared_ptr<std::byte> CountedMemory::allocate(std::int64_t bytes) const {
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(1, bytes));
  void* const data = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  const std::int64_t now = count_->now += bytes;
  std::int64_t peak = count_->peak;
  while (peak < now && !count_->peak.compare_exchange_weak(peak, now)) {
  }
  return {static_cast<std::byte*>(data), [count = count_, bytes, size](std::byte* p) {
            ::munmap(p, size);
            count->now -= bytes;
          }};
}

void CountedMemory::download(const std::byte* /*from*/, std::byte* host, std::int64_t bytes) const {
  std::fill_n(host, bytes, std::byte{0});
}

std::unique_ptr<PackedMatrix> RehearsalBackend::pack(const Tensor& weight, DType dtype) const {
  const std::int64_t N = weight.shape()[0], K = weight.shape()[1];
  return std::make_unique<CountedMatrix>(memory_, N, K, dtype, packed_bytes(weight, dtype));
}

std::unique_ptr<PackedMatrix> RehearsalBackend::pack(const QuantizedMatrix& weight) const {
  return std::make_unique<CountedMatrix>(memory_, weight.out_features(), weight.in_features(), DType::u8,
                                         packed_bytes(weight));
}

std::int64_t RehearsalBackend::packed_bytes(std::int64_t N, std::int64_t K, DType dtype) const {
  return N * K * size_of(dtype);
}

std::int64_t RehearsalBackend::packed_bytes(const Tensor& weight, DType dtype) const {
  return packed_bytes(weight.shape()[0], weight.shape()[1], dtype);
}

std::int64_t RehearsalBackend::packed_bytes(const QuantizedMatrix& weight) const {
  const std::int64_t N = weight.out_features(), K = weight.in_features();
  return N * K * weight.format.bits / 8 + N * weight.groups() * 3;
}

void RehearsalBackend::matmul(Matrix<const float> /*x*/, const PackedMatrix& /*w*/, const float* /*bias*/,
                              Matrix<float> /*y*/, std::int64_t /*first_out*/) const {}
void RehearsalBackend::embed(const Tensor& /*table*/, std::span<const TokenId> /*ids*/, Matrix<float> /*y*/) const {}
void RehearsalBackend::embed(const PackedMatrix& /*table*/, std::span<const TokenId> /*ids*/,
                             Matrix<float> /*y*/) const {}
void RehearsalBackend::rms_norm(Matrix<const float> /*x*/, const float* /*weight*/, float /*eps*/,
                                Matrix<float> /*y*/) const {}
void RehearsalBackend::add_rms_norm(Matrix<float> /*residual*/, Matrix<const float> /*h*/, const float* /*weight*/,
                                    float /*eps*/, Matrix<float> /*y*/) const {}
void RehearsalBackend::gated_rms_norm(Matrix<const float> /*x*/, Matrix<const float> /*z*/, const float* /*weight*/,
                                      float /*eps*/, std::int64_t /*group*/, bool /*norm_before_gate*/,
                                      Matrix<float> /*y*/) const {}
void RehearsalBackend::layer_norm(Matrix<const float> /*x*/, const float* /*weight*/, const float* /*bias*/,
                                  float /*eps*/, Matrix<float> /*y*/) const {}
void RehearsalBackend::silu_gate(Matrix<const float> /*x*/, Matrix<const float> /*z*/, Matrix<float> /*y*/) const {}
void RehearsalBackend::relu(Matrix<const float> /*x*/, Matrix<float> /*y*/) const {}
void RehearsalBackend::softplus(Matrix<const float> /*x*/, const float* /*bias*/, float /*low*/, float /*high*/,
                                Matrix<float> /*y*/) const {}
void RehearsalBackend::causal_conv(Matrix<const float> /*x*/, Matrix<const float> /*weight*/, const float* /*bias*/,
                                   Offsets /*offsets*/, std::span<float* const> /*states*/, Matrix<float> /*y*/) const {
}
void RehearsalBackend::add_rows(Matrix<const float> /*x*/, Matrix<const float> /*h*/, Matrix<float> /*y*/) const {}
void RehearsalBackend::selective_scan(Matrix<const float> /*x*/, Matrix<const float> /*dt*/, Matrix<const float> /*A*/,
                                      Matrix<const float> /*B*/, Matrix<const float> /*C*/, const float* /*D*/,
                                      const ScanRows& /*rows*/, Matrix<float> /*y*/) const {}
void RehearsalBackend::ssd(Matrix<const float> /*x*/, Matrix<const float> /*dt*/, std::span<const float> /*A*/,
                           Matrix<const float> /*B*/, Matrix<const float> /*C*/, std::int64_t /*groups*/,
                           std::span<const float> /*D*/, const ScanRows& /*rows*/, Matrix<float> /*y*/) const {}
void RehearsalBackend::rope(Matrix<float> /*x*/, std::int64_t /*heads*/, std::span<const double> /*frequencies*/,
                            bool /*interleaved*/, Offsets /*offsets*/, std::span<const std::int64_t> /*first*/) const {}
void RehearsalBackend::attention(Matrix<const float> /*q*/, Matrix<const float> /*k*/, Matrix<const float> /*v*/,
                                 const KvShape& /*kv*/, float /*scale*/, Offsets /*offsets*/,
                                 std::span<const KvSequence> /*caches*/, Matrix<float> /*y*/) const {}
void RehearsalBackend::gather_rows(Matrix<const float> /*x*/, std::span<const std::int64_t> /*rows*/,
                                   Matrix<float> /*y*/) const {}
void RehearsalBackend::copy_columns(Matrix<const float> /*x*/, std::span<const ColumnRun> /*runs*/,
                                    Matrix<float> /*y*/) const {}
void RehearsalBackend::scatter_rows(Matrix<const float> /*x*/, std::span<const std::int64_t> /*rows*/,
                                    Matrix<float> /*y*/) const {}
void RehearsalBackend::merge_rows(Matrix<float> /*x*/, std::span<const RowMerge> /*merges*/,
                                  const float* /*weights*/) const {}

// What is decided by has no value here: zeros.

void RehearsalBackend::selective_scan_contribution(Matrix<const float> x, Matrix<const float> /*dt*/,
                                                   Matrix<const float> /*A*/, Matrix<const float> /*B*/,
                                                   const float* /*m*/, Offsets /*offsets*/, float* c) const {
  std::fill_n(c, x.rows, 0.0F);
}
void RehearsalBackend::ssd_contribution(Matrix<const float> x, Matrix<const float> /*dt*/, std::span<const float> /*A*/,
                                        Matrix<const float> /*B*/, std::int64_t /*groups*/, const float* /*m*/,
                                        Offsets /*offsets*/, float* c) const {
  std::fill_n(c, x.rows, 0.0F);
}
void RehearsalBackend::log_sum_exp(Matrix<const float> x, double* sums) const {
  std::fill_n(sums, x.rows, 0.0);
}
void RehearsalBackend::divergence(Matrix<const float> p, Matrix<const float> /*q*/, double* sums) const {
  std::fill_n(sums, p.rows, 0.0);
}
void RehearsalBackend::importance(Matrix<const float> y, Importance /*metric*/, float* scores) const {
  std::fill_n(scores, y.rows, 0.0F);
}
void RehearsalBackend::best_match(Matrix<const float> /*x*/, std::span<const std::int64_t> sources,
                                  std::span<const std::int64_t> targets, bool /*later_only*/, std::int64_t* match,
                                  float* similarity) const {
  std::fill_n(match, sources.size(), targets.empty() ? -1 : targets.back());
  std::fill_n(similarity, sources.size(), 0.0F);
}

}  // namespace molt
