#include <array>

#include "base/parallel.h"
#include "kernels/reference/reference_backend.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// W as float32 values, transposed: element (k, n) is W[n, k].
class PlainMatrix final : public PackedMatrix {
 public:
  /// `values` [N, K]: f32, and what `dtype` can hold.
  PlainMatrix(const Tensor& values, DType dtype) : dtype_(dtype) {
    MOLT_CHECK(values.shape().size() == 2);
    out_features_ = values.shape()[0];
    in_features_ = values.shape()[1];
    const auto* from = values.as<float>();
    values_ = Tensor::zeros(DType::f32, {in_features_, out_features_});
    auto* to = values_.as<float>();
    for (std::int64_t n = 0; n < out_features_; ++n) {
      for (std::int64_t k = 0; k < in_features_; ++k) to[k * out_features_ + n] = from[n * in_features_ + k];
    }
  }

  std::int64_t out_features() const override { return out_features_; }
  std::int64_t in_features() const override { return in_features_; }
  DType dtype() const override { return dtype_; }
  std::int64_t bytes() const override { return values_.bytes(); }
  /// The weights of input k, one an output.
  const float* row(std::int64_t k) const { return values_.as<float>() + k * out_features_; }

 private:
  DType dtype_;
  std::int64_t out_features_ = 0;
  std::int64_t in_features_ = 0;
  Tensor values_;
};

}  // namespace

std::unique_ptr<PackedMatrix> ReferenceBackend::pack(const Tensor& weight, DType dtype) const {
  MOLT_CHECK(dtype == DType::f32 || dtype == DType::bf16);
  const Tensor values = weight.to_f32();
  return std::make_unique<PlainMatrix>(dtype == DType::bf16 ? values.to_bf16().to_f32() : values, dtype);
}

std::unique_ptr<PackedMatrix> ReferenceBackend::pack(const QuantizedMatrix& weight) const {
  return std::make_unique<PlainMatrix>(dequantize(weight), DType::u8);
}

void ReferenceBackend::embed(const PackedMatrix& table, std::span<const TokenId> ids, Matrix<float> y) const {
  shapes::check_embed(table, ids, y);
  const auto* plain = dynamic_cast<const PlainMatrix*>(&table);
  MOLT_CHECK(plain != nullptr);  // packed by this backend
  for (std::int64_t t = 0; t < y.rows; ++t) {
    for (std::int64_t k = 0; k < y.cols; ++k) y(t, k) = plain->row(k)[ids[static_cast<std::size_t>(t)]];
  }
}

void ReferenceBackend::matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
                              std::int64_t first_out) const {
  shapes::check_matmul(x, w, y, first_out);
  const auto* plain = dynamic_cast<const PlainMatrix*>(&w);
  MOLT_CHECK(plain != nullptr);  // packed by this backend
  const bool round_x = w.dtype() == DType::bf16;
  // Columns are taken in blocks, side by side in the accumulators; each column's sum runs over k in order, alone.
  constexpr std::int64_t kBlock = 64;
  parallel_for(y.cols, kBlock, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = 0; t < x.rows; ++t) {
      std::array<double, kBlock> sums{};
      for (std::int64_t k = 0; k < x.cols; ++k) {
        const double input = round_x ? BFloat16::from_float(x(t, k)).to_float() : x(t, k);
        const float* weights = plain->row(k) + first_out + begin;
        for (std::int64_t n = 0; n < end - begin; ++n) sums[static_cast<std::size_t>(n)] += input * weights[n];
      }
      for (std::int64_t n = begin; n < end; ++n) {
        const double sum = sums[static_cast<std::size_t>(n - begin)];
        y(t, n) = static_cast<float>(bias == nullptr ? sum : sum + bias[first_out + n]);
      }
    }
  });
}

}  // namespace molt
