// Columns (channels or heads) are taken in blocks whose width is fixed; a block gives each row one sum of shares, and
// the blocks' sums are added in their order.
#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// c = the mean over `cols` columns of rows' shares. write(first, end, begin, cols, sizes) fills `sizes` [end - first,
/// cols] for rows [first, end) and columns from `begin` on, at most `width` of them; `cost` is one column's in one row,
/// in the measure of grain_for().
template <class Write>
void mean_shares(std::int64_t cols, std::int64_t width, std::int64_t cost, Offsets offsets, float* c, Write write) {
  const Kernels& kernels = select_kernels();
  const std::int64_t blocks = (cols + width - 1) / width;
  const std::int64_t rows = offsets.back();
  thread_local Scratch shares_scratch;
  float* const shares = shares_scratch.get(blocks * rows);  // [blocks, rows]
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    const std::int64_t first = offsets[s], end = offsets[s + 1];
    if (first == end) continue;
    parallel_for(blocks, grain_for(cost * width * (end - first)), [&](std::int64_t from, std::int64_t to) {
      thread_local Scratch scratch;
      float* const sizes = scratch.get((end - first) * width);
      for (std::int64_t block = from; block < to; ++block) {
        const std::int64_t begin = block * width;
        const std::int64_t here = std::min(width, cols - begin);
        write(first, end, begin, here, sizes);
        kernels.column_shares(sizes, end - first, here, shares + block * rows + first);
      }
    });
  }
  const float scale = 1.0F / static_cast<float>(cols);
  std::fill_n(c, rows, 0.0F);
  for (std::int64_t block = 0; block < blocks; ++block) {
    for (std::int64_t t = 0; t < rows; ++t) c[t] += shares[block * rows + t];
  }
  for (std::int64_t t = 0; t < rows; ++t) c[t] *= scale;
}

}  // namespace

void CpuBackend::selective_scan_contribution(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                             Matrix<const float> B, const float* m, Offsets offsets, float* c) const {
  const shapes::ScanShape shape = shapes::check_selective_scan(x, dt, A, B);
  shapes::check_offsets(offsets, x.rows);
  const Kernels& kernels = select_kernels();
  mean_shares(shape.channels, kShareColumns, 15 * shape.states, offsets, c,
              [&](std::int64_t first, std::int64_t end, std::int64_t begin, std::int64_t channels, float* sizes) {
                kernels.selective_scan_writes({
                    .x = x.row(first) + begin,
                    .x_stride = x.stride,
                    .dt = dt.row(first) + begin,
                    .dt_stride = dt.stride,
                    .A = A.data + begin,
                    .A_stride = A.stride,
                    .B = B.row(first),
                    .B_stride = B.stride,
                    .m = m == nullptr ? nullptr : m + first,
                    .rows = end - first,
                    .channels = channels,
                    .states = shape.states,
                    .sizes = sizes,
                });
              });
}

void CpuBackend::ssd_contribution(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A,
                                  Matrix<const float> B, std::int64_t groups, const float* m, Offsets offsets,
                                  float* c) const {
  const shapes::SsdShape shape = shapes::check_ssd(x, dt, A, B, groups);
  shapes::check_offsets(offsets, x.rows);
  const Kernels& kernels = select_kernels();
  thread_local Scratch norms_scratch;
  const Matrix<float> norms(norms_scratch.get(x.rows * shape.heads), x.rows, shape.heads);
  parallel_for(x.rows, grain_for(2 * B.cols + shape.heads), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t g = 0; g < groups; ++g) {
        const float norm = std::sqrt(kernels.sum_squares(B.row(t) + g * shape.states, shape.states));
        std::fill_n(norms.row(t) + g * shape.heads_per_group(), shape.heads_per_group(), norm);
      }
    }
  });
  constexpr std::int64_t kHeads = 16;  // a vector of the widest instruction set
  mean_shares(shape.heads, kHeads, 2 * shape.channels, offsets, c,
              [&](std::int64_t first, std::int64_t end, std::int64_t begin, std::int64_t heads, float* sizes) {
                kernels.ssd_writes({
                    .x = x.row(first) + begin * shape.channels,
                    .x_stride = x.stride,
                    .dt = dt.row(first) + begin,
                    .dt_stride = dt.stride,
                    .A = A.data() + begin,
                    .B_norms = norms.row(first) + begin,
                    .B_norms_stride = norms.stride,
                    .m = m == nullptr ? nullptr : m + first,
                    .rows = end - first,
                    .heads = heads,
                    .channels = shape.channels,
                    .sizes = sizes,
                });
              });
}

}  // namespace molt
