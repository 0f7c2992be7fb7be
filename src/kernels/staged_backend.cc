#include "kernels/staged_backend.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace molt {
namespace {

constexpr std::int64_t kLine = 64;  // bytes
constexpr std::int64_t kFloat = 4;
constexpr std::byte kMark{0x5a};

}  // namespace

/// One op's arguments: copies are made as they are asked for, what was written goes back at the end.
class StagedBackend::Call {
 public:
  explicit Call(const StagedBackend& backend) : b_(backend), lock_(backend.mutex_), scope_(backend.copies_) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// A copy of `size` bytes to read.
  std::byte* bytes(const void* data, std::int64_t size) {
    if (data == nullptr) return nullptr;
    return copy_of({static_cast<std::byte*>(const_cast<void*>(data)), nullptr, 1, size, size, size}).inside;
  }
  const float* floats(const float* data, std::int64_t count) {
    return reinterpret_cast<const float*>(bytes(data, count * kFloat));
  }
  Matrix<const float> in(Matrix<const float> x) {
    if (x.data == nullptr) return x;
    const Copy copy = copy_of(rows_of(x));
    return {reinterpret_cast<const float*>(copy.inside), x.rows, x.cols, copy.inside_stride / kFloat};
  }

  /// A copy to read and to write.
  Matrix<float> out(Matrix<float> y) {
    if (y.data == nullptr) return y;
    Copy copy = copy_of(rows_of(y));
    copy.rows = y.rows;
    written_.push_back(copy);
    return {reinterpret_cast<float*>(copy.inside), y.rows, y.cols, copy.inside_stride / kFloat};
  }
  std::byte* out(void* data, std::int64_t size) {
    std::byte* const inside = bytes(data, size);
    written_.push_back({static_cast<std::byte*>(data), inside, 1, size, size, size});
    return inside;
  }

  void finish() {
    for (const Copy& copy : written_) move(copy, false);
  }

 private:
  /// Rows of `width` bytes, with their strides in bytes.
  struct Copy {
    std::byte *outside, *inside;
    std::int64_t rows, width, outside_stride, inside_stride;
  };

  Copy rows_of(Matrix<const float> x) const {
    const std::int64_t width = x.cols * kFloat, stride = x.stride * kFloat;
    auto* const data = reinterpret_cast<std::byte*>(const_cast<float*>(x.data));
    const bool same_stride = !b_.aligned_ || x.rows <= 1;
    return {data, nullptr, x.rows, width, stride, same_stride ? stride : (width + kLine - 1) / kLine * kLine};
  }

  /// The copy of what `wanted` says, made if there is none yet.
  Copy copy_of(Copy wanted) {
    for (const Copy& copy : copies_) {
      const bool same = copy.outside == wanted.outside && copy.width == wanted.width &&
                        (copy.rows == 1 || wanted.rows == 1 || copy.outside_stride == wanted.outside_stride);
      if (same && copy.rows >= wanted.rows) return copy;
    }
    const auto place = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(wanted.outside) % kLine);
    const std::int64_t misalignment = b_.aligned_ ? 0 : place;
    const std::int64_t room = misalignment + wanted.rows * wanted.inside_stride + wanted.width;
    wanted.inside = reinterpret_cast<std::byte*>(b_.copies_.floats((room + kFloat - 1) / kFloat)) + misalignment;
    copies_.push_back(wanted);
    move(wanted, true);
    return wanted;
  }

  /// Moves all rows to the inside, or to the outside, in one go: what lies between them there is kept.
  void move(const Copy& copy, bool to_inside) const {
    if (copy.rows == 0 || copy.width == 0) return;
    const bool host_outside = b_.outside_.is_host();
    const Memory& device = host_outside ? b_.inner_->memory() : b_.outside_;
    std::byte* const on_host = host_outside ? copy.outside : copy.inside;
    std::byte* const there = host_outside ? copy.inside : copy.outside;
    const std::int64_t host_stride = host_outside ? copy.outside_stride : copy.inside_stride;
    const std::int64_t stride = host_outside ? copy.inside_stride : copy.outside_stride;
    const std::int64_t extent = (copy.rows - 1) * stride + copy.width;
    const Tensor packed = Tensor::uninitialized(DType::u8, {extent});  // laid out as there
    const auto for_rows = [&](auto body) {
      for (std::int64_t i = 0; i < copy.rows; ++i) body(packed.data() + i * stride, on_host + i * host_stride);
    };
    const auto width = static_cast<std::size_t>(copy.width);
    if (to_inside == host_outside) {
      // Onto the device: between the rows lie marks there, or, outside, what others have.
      std::fill_n(packed.data(), extent, kMark);
      if (!host_outside) device.download(there, packed.data(), extent);
      for_rows([&](std::byte* row, const std::byte* host) { std::memcpy(row, host, width); });
      device.upload(packed.data(), there, extent);
    } else {
      device.download(there, packed.data(), extent);
      for_rows([&](const std::byte* row, std::byte* host) { std::memcpy(host, row, width); });
      if (host_outside) check_gaps(copy, packed, stride);
    }
  }

  /// Nothing may have been written between the rows: there were marks.
  static void check_gaps(const Copy& copy, const Tensor& packed, std::int64_t stride) {
    for (std::int64_t i = 0; i + 1 < copy.rows; ++i) {
      const std::byte* const row = packed.data() + i * stride;
      MOLT_CHECK(std::all_of(row + copy.width, row + stride, [](std::byte b) { return b == kMark; }));
    }
  }

  const StagedBackend& b_;
  std::lock_guard<std::mutex> lock_;
  Arena::Scope scope_;
  std::vector<Copy> copies_, written_;
};

StagedBackend::StagedBackend(std::shared_ptr<const Backend> inner, const Memory& outside, bool aligned)
    : inner_(std::move(inner)), outside_(outside), aligned_(aligned), copies_(inner_->memory()) {
  MOLT_CHECK(outside_.is_host() || inner_->memory().is_host());
}

void StagedBackend::matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
                           std::int64_t first_out) const {
  Call call(*this);
  inner_->matmul(call.in(x), w, call.floats(bias, w.out_features()), call.out(y), first_out);
  call.finish();
}

void StagedBackend::embed(const Tensor& table, std::span<const TokenId> ids, Matrix<float> y) const {
  Call call(*this);
  const Tensor copy(table.dtype(), table.shape(), call.bytes(table.data(), table.bytes()), nullptr);
  inner_->embed(copy, ids, call.out(y));
  call.finish();
}

void StagedBackend::embed(const PackedMatrix& table, std::span<const TokenId> ids, Matrix<float> y) const {
  Call call(*this);
  inner_->embed(table, ids, call.out(y));
  call.finish();
}

void StagedBackend::rms_norm(Matrix<const float> x, const float* weight, float eps, Matrix<float> y) const {
  Call call(*this);
  inner_->rms_norm(call.in(x), call.floats(weight, x.cols), eps, call.out(y));
  call.finish();
}

void StagedBackend::add_rms_norm(Matrix<float> residual, Matrix<const float> h, const float* weight, float eps,
                                 Matrix<float> y) const {
  Call call(*this);
  inner_->add_rms_norm(call.out(residual), call.in(h), call.floats(weight, h.cols), eps, call.out(y));
  call.finish();
}

void StagedBackend::gated_rms_norm(Matrix<const float> x, Matrix<const float> z, const float* weight, float eps,
                                   std::int64_t group, bool norm_before_gate, Matrix<float> y) const {
  Call call(*this);
  inner_->gated_rms_norm(call.in(x), call.in(z), call.floats(weight, x.cols), eps, group, norm_before_gate,
                         call.out(y));
  call.finish();
}

void StagedBackend::layer_norm(Matrix<const float> x, const float* weight, const float* bias, float eps,
                               Matrix<float> y) const {
  Call call(*this);
  inner_->layer_norm(call.in(x), call.floats(weight, x.cols), call.floats(bias, x.cols), eps, call.out(y));
  call.finish();
}

void StagedBackend::silu_gate(Matrix<const float> x, Matrix<const float> z, Matrix<float> y) const {
  Call call(*this);
  inner_->silu_gate(call.in(x), call.in(z), call.out(y));
  call.finish();
}

void StagedBackend::relu(Matrix<const float> x, Matrix<float> y) const {
  Call call(*this);
  inner_->relu(call.in(x), call.out(y));
  call.finish();
}

void StagedBackend::softplus(Matrix<const float> x, const float* bias, float low, float high, Matrix<float> y) const {
  Call call(*this);
  inner_->softplus(call.in(x), call.floats(bias, x.cols), low, high, call.out(y));
  call.finish();
}

void StagedBackend::causal_conv(Matrix<const float> x, Matrix<const float> weight, const float* bias, Offsets offsets,
                                std::span<float* const> states, Matrix<float> y) const {
  Call call(*this);
  std::vector<float*> copies;
  for (float* state : states) {
    copies.push_back(reinterpret_cast<float*>(call.out(state, (weight.rows - 1) * weight.cols * kFloat)));
  }
  inner_->causal_conv(call.in(x), call.in(weight), call.floats(bias, x.cols), offsets, copies, call.out(y));
  call.finish();
}

void StagedBackend::add_rows(Matrix<const float> x, Matrix<const float> h, Matrix<float> y) const {
  Call call(*this);
  inner_->add_rows(call.in(x), call.in(h), call.out(y));
  call.finish();
}

namespace {

/// A scan's states of `size` elements each, copied by `call`.
struct CopiedStates {
  std::vector<float*> floats;
  std::vector<RoundedState> rounded;

  template <class Call>
  CopiedStates(Call& call, const ScanRows& rows, std::int64_t size) {
    for (float* state : rows.states) floats.push_back(reinterpret_cast<float*>(call.out(state, size * kFloat)));
    for (const RoundedState& state : rows.rounded) {
      rounded.push_back({reinterpret_cast<BFloat16*>(call.out(state.data, size * 2)), state.key});
    }
  }

  ScanRows of(ScanRows rows) const {
    rows.states = floats;
    rows.rounded = rounded;
    return rows;
  }
};

}  // namespace

void StagedBackend::selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                   Matrix<const float> B, Matrix<const float> C, const float* D, const ScanRows& rows,
                                   Matrix<float> y) const {
  Call call(*this);
  const CopiedStates states(call, rows, A.rows * A.cols);
  inner_->selective_scan(call.in(x), call.in(dt), call.in(A), call.in(B), call.in(C), call.floats(D, x.cols),
                         states.of(rows), call.out(y));
  call.finish();
}

void StagedBackend::ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A, Matrix<const float> B,
                        Matrix<const float> C, std::int64_t groups, std::span<const float> D, const ScanRows& rows,
                        Matrix<float> y) const {
  Call call(*this);
  const CopiedStates states(call, rows, x.cols * (B.cols / groups));
  inner_->ssd(call.in(x), call.in(dt), {call.floats(A.data(), std::ssize(A)), A.size()}, call.in(B), call.in(C), groups,
              {call.floats(D.data(), std::ssize(D)), D.size()}, states.of(rows), call.out(y));
  call.finish();
}

void StagedBackend::rope(Matrix<float> x, std::int64_t heads, std::span<const double> frequencies, bool interleaved,
                         Offsets offsets, std::span<const std::int64_t> first) const {
  Call call(*this);
  inner_->rope(call.out(x), heads, frequencies, interleaved, offsets, first);
  call.finish();
}

void StagedBackend::attention(Matrix<const float> q, Matrix<const float> k, Matrix<const float> v, const KvShape& kv,
                              float scale, Offsets offsets, std::span<const KvSequence> caches, Matrix<float> y) const {
  Call call(*this);
  inner_->attention(call.in(q), call.in(k), call.in(v), kv, scale, offsets, caches, call.out(y));
  call.finish();
}

void StagedBackend::selective_scan_contribution(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                                Matrix<const float> B, const float* m, Offsets offsets,
                                                float* c) const {
  Call call(*this);
  inner_->selective_scan_contribution(call.in(x), call.in(dt), call.in(A), call.in(B), m, offsets, c);
}

void StagedBackend::ssd_contribution(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A,
                                     Matrix<const float> B, std::int64_t groups, const float* m, Offsets offsets,
                                     float* c) const {
  Call call(*this);
  inner_->ssd_contribution(call.in(x), call.in(dt), {call.floats(A.data(), std::ssize(A)), A.size()}, call.in(B),
                           groups, m, offsets, c);
}

void StagedBackend::log_sum_exp(Matrix<const float> x, double* sums) const {
  Call call(*this);
  inner_->log_sum_exp(call.in(x), sums);
}

void StagedBackend::divergence(Matrix<const float> p, Matrix<const float> q, double* sums) const {
  Call call(*this);
  inner_->divergence(call.in(p), call.in(q), sums);
}

void StagedBackend::importance(Matrix<const float> y, Importance metric, float* scores) const {
  Call call(*this);
  inner_->importance(call.in(y), metric, scores);
}

void StagedBackend::best_match(Matrix<const float> x, std::span<const std::int64_t> sources,
                               std::span<const std::int64_t> targets, bool later_only, std::int64_t* match,
                               float* similarity) const {
  Call call(*this);
  inner_->best_match(call.in(x), sources, targets, later_only, match, similarity);
}

void StagedBackend::best_matches(Matrix<const float> x, std::span<const MatchSearch> searches, bool later_only) const {
  Call call(*this);
  inner_->best_matches(call.in(x), searches, later_only);
}

void StagedBackend::gather_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  Call call(*this);
  const Matrix<const float> from = call.in(x);  // first: y may be the beginning of x
  inner_->gather_rows(from, rows, call.out(y));
  call.finish();
}

void StagedBackend::copy_columns(Matrix<const float> x, std::span<const ColumnRun> runs, Matrix<float> y) const {
  Call call(*this);
  inner_->copy_columns(call.in(x), runs, call.out(y));
  call.finish();
}

void StagedBackend::scatter_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  Call call(*this);
  inner_->scatter_rows(call.in(x), rows, call.out(y));
  call.finish();
}

void StagedBackend::merge_rows(Matrix<float> x, std::span<const RowMerge> merges, const float* weights) const {
  Call call(*this);
  inner_->merge_rows(call.out(x), merges, weights);
  call.finish();
}

}  // namespace molt
