// How much of a sequence's last state comes from each of its rows: the sizes of what rows wrote, from the last row to
// the first, with the sum of the steps behind each row running along; then every row's shares of its columns.
#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/sums.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {
namespace {

/// The floor of the exponents, as a power of two: -60 * log2(e).
constexpr float kLowest = -86.5617024533F;

/// A running sum that keeps what its last addition has rounded off (Kahan 1965).
struct RunningSum {
  VecF sum{};
  VecF surplus{};

  [[gnu::always_inline]] void add(VecF v) {
    const VecF next = v - surplus;
    const VecF total = sum + next;
    surplus = (total - sum) - next;
    sum = total;
  }
};

inline float multiplicity(const float* m, int64_t t) {
  return m == nullptr ? 1.0F : m[t];
}

/// The squares of what is left of states [n, n + kStates) of row t's B, for a vector of channels.
template <int kStates, class Lanes>
[[gnu::always_inline]] inline VecF squares_left(const ScanWrites& w, int64_t c, int64_t t, int64_t n, VecF later,
                                                Lanes lanes) {
  const float* B = w.B + t * w.B_stride + n;
  const auto left = exp2_decay(Block<kStates>::map(
      [&](int i) { return max(later * at(w.A + (n + i) * w.A_stride + c, lanes), broadcast(kLowest)); }));
  VecF squares{};
  MOLT_UNROLL
  for (int i = 0; i < kStates; ++i) squares += (left.v[i] * B[i]) * (left.v[i] * B[i]);
  return squares;
}

}  // namespace

void selective_scan_writes(const ScanWrites& w) {
  constexpr int kGroup = 4;
  for_vectors(w.channels, [&](int64_t c, auto lanes) {
    RunningSum later;
    for (int64_t t = w.rows - 1; t >= 0; --t) {
      const VecF dt = at(w.dt + t * w.dt_stride + c, lanes);
      const VecF x = at(w.x + t * w.x_stride + c, lanes);
      const VecF exponent = later.sum * kLog2E;
      VecF squares{};
      int64_t n = 0;
      for (; n + kGroup <= w.states; n += kGroup) squares += squares_left<kGroup>(w, c, t, n, exponent, lanes);
      for (; n < w.states; ++n) squares += squares_left<1>(w, c, t, n, exponent, lanes);
      put(w.sizes + t * w.channels + c, dt * float_of(bits_of(x) & 0x7fffffff) * sqrt(squares), lanes);
      later.add(dt * multiplicity(w.m, t));
    }
  });
}

void ssd_writes(const SsdWrites& w) {
  for_vectors(w.heads, [&](int64_t h, auto lanes) {
    const VecF A = at(w.A + h, lanes) * kLog2E;
    RunningSum later;
    for (int64_t t = w.rows - 1; t >= 0; --t) {
      const float* x = w.x + t * w.x_stride + h * w.channels;
      VecF squares{};
      for (int i = 0; i < static_cast<int>(lanes); ++i) {
        squares[i] = sum_of_squares(w.channels, [=](int64_t k, auto count, auto some) {
          return block_at<count.value>(x + i * w.channels + k, some);
        });
      }
      const VecF dt = at(w.dt + t * w.dt_stride + h, lanes);
      const VecF left = exp2_decay(max(later.sum * A, broadcast(kLowest)));
      const VecF size = dt * sqrt(squares) * at(w.B_norms + t * w.B_norms_stride + h, lanes) * left;
      put(w.sizes + t * w.heads + h, size, lanes);
      later.add(dt * multiplicity(w.m, t));
    }
  });
}

void column_shares(const float* sizes, int64_t rows, int64_t cols, float* shares) {
  float inverse[kShareColumns];
  for_vectors(cols, [&](int64_t c, auto lanes) {
    VecF sum{};
    for (int64_t t = 0; t < rows; ++t) sum += at(sizes + t * cols + c, lanes);
    const VecI empty = sum == VecF{};
    put(inverse + c, empty ? VecF{} : broadcast(1) / sum, lanes);
  });
  for (int64_t t = 0; t < rows; ++t) {
    VecF sum{};
    for_vectors(cols, [&](int64_t c, auto lanes) { sum += at(sizes + t * cols + c, lanes) * at(inverse + c, lanes); });
    shares[t] = sum_of(sum);
  }
}

}  // namespace molt::MOLT_ISA
