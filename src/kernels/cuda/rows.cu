// Moving rows and columns, and merging rows.
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 256;

/// y[to(i)] = x[from(i)] for rows i of the grid; null numbers mean i itself.
template <class T>
__global__ void __launch_bounds__(kThreads)
    move_rows_kernel(const T* x, std::int64_t x_stride, const std::int64_t* from, T* y, std::int64_t y_stride,
                     const std::int64_t* to, int cols) {
  const std::int64_t i = blockIdx.x;
  const T* const source = x + (from == nullptr ? i : from[i]) * x_stride;
  T* const target = y + (to == nullptr ? i : to[i]) * y_stride;
  for (int c = threadIdx.x; c < cols; c += kThreads) target[c] = source[c];
}

void move_rows(Matrix<const float> x, const std::int64_t* from, Matrix<float> y, const std::int64_t* to,
               std::int64_t rows) {
  if (rows == 0 || x.cols == 0) return;
  const auto grid = static_cast<unsigned>(rows);
  const cudaStream_t stream = Context::get().stream();
  if (in_fours(x) && in_fours(y)) {
    move_rows_kernel<float4><<<grid, kThreads, 0, stream>>>(reinterpret_cast<const float4*>(x.data), x.stride / 4, from,
                                                            reinterpret_cast<float4*>(y.data), y.stride / 4, to,
                                                            static_cast<int>(x.cols / 4));
  } else {
    move_rows_kernel<float>
        <<<grid, kThreads, 0, stream>>>(x.data, x.stride, from, y.data, y.stride, to, static_cast<int>(x.cols));
  }
  check_launch("moving rows");
}

/// A row of y: zeros, but for the runs.
__global__ void __launch_bounds__(kThreads)
    copy_columns_kernel(Rows<const float> x, const ColumnRun* runs, int count, Rows<float> y, int cols) {
  const float* const from = x.row(blockIdx.x);
  float* const to = y.row(blockIdx.x);
  for (int c = threadIdx.x; c < cols; c += kThreads) to[c] = 0;
  __syncthreads();
  for (int r = 0; r < count; ++r) {
    for (int c = threadIdx.x; c < runs[r].count; c += kThreads) to[runs[r].to + c] = from[runs[r].from + c];
  }
}

/// A merge with the part that its rows have in the mean.
struct Part {
  std::int64_t row;
  float part;
};

/// Target blockIdx.y is members[firsts[.]] and its sources, up to firsts[. + 1].
__global__ void __launch_bounds__(kThreads)
    merge_kernel(Rows<float> x, const Part* members, const std::int64_t* firsts, std::int64_t cols) {
  const std::int64_t c = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  if (c >= cols) return;
  float sum = 0;
  for (std::int64_t i = firsts[blockIdx.y]; i < firsts[blockIdx.y + 1]; ++i) {
    sum += members[i].part * x.row(members[i].row)[c];
  }
  x.row(members[firsts[blockIdx.y]].row)[c] = sum;
}

/// The rows of each target together, it first, and where each target's begin.
void group(std::span<const RowMerge> merges, const float* weights, std::int64_t rows, std::vector<Part>& members,
           std::vector<std::int64_t>& firsts) {
  std::vector<std::int64_t> group_of(static_cast<std::size_t>(rows), -1);
  std::vector<std::vector<std::int64_t>> groups;
  for (const RowMerge& merge : merges) {
    std::int64_t& group = group_of[static_cast<std::size_t>(merge.target)];
    if (group < 0) {
      group = static_cast<std::int64_t>(groups.size());
      groups.push_back({merge.target});
    }
    groups[static_cast<std::size_t>(group)].push_back(merge.source);
  }
  for (const std::vector<std::int64_t>& of_target : groups) {
    double total = 0;
    for (const std::int64_t row : of_target) total += weights == nullptr ? 1.0 : weights[row];
    const bool plain = weights == nullptr || total == 0;
    firsts.push_back(static_cast<std::int64_t>(members.size()));
    for (const std::int64_t row : of_target) {
      const double part = plain ? 1.0 / static_cast<double>(of_target.size()) : weights[row] / total;
      members.push_back({row, static_cast<float>(part)});
    }
  }
  firsts.push_back(static_cast<std::int64_t>(members.size()));
}

}  // namespace
}  // namespace cuda

void CudaBackend::gather_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  shapes::check_gather_rows(x, rows, y);
  if (y.rows == 0) return;
  cuda::Context& context = cuda::Context::get();
  const std::int64_t* const from = context.hand_over(rows.data(), y.rows);
  if (x.data != y.data) return cuda::move_rows(x, from, y, nullptr, y.rows);
  // In place blocks would overtake each other: by way of scratch memory.
  const Matrix<float> copy(reinterpret_cast<float*>(context.scratch(y.rows * y.cols * 4)), y.rows, y.cols);
  cuda::move_rows(x, from, copy, nullptr, y.rows);
  cuda::move_rows(copy, nullptr, y, nullptr, y.rows);
}

void CudaBackend::scatter_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  shapes::check_scatter_rows(x, rows, y);
  if (x.rows == 0) return;
  cuda::move_rows(x, nullptr, y, cuda::Context::get().hand_over(rows.data(), x.rows), x.rows);
}

void CudaBackend::copy_columns(Matrix<const float> x, std::span<const ColumnRun> runs, Matrix<float> y) const {
  shapes::check_copy_columns(x, runs, y);
  if (y.rows == 0 || y.cols == 0) return;
  cuda::Context& context = cuda::Context::get();
  cuda::copy_columns_kernel<<<static_cast<unsigned>(y.rows), cuda::kThreads, 0, context.stream()>>>(
      x, context.hand_over(runs.data(), std::ssize(runs)), static_cast<int>(runs.size()), y, static_cast<int>(y.cols));
  cuda::check_launch("copy_columns");
}

void CudaBackend::merge_rows(Matrix<float> x, std::span<const RowMerge> merges, const float* weights) const {
  shapes::check_merge_rows(x, merges);
  if (merges.empty() || x.cols == 0) return;
  std::vector<cuda::Part> members;
  std::vector<std::int64_t> firsts;
  cuda::group(merges, weights, x.rows, members, firsts);
  cuda::Context& context = cuda::Context::get();
  const dim3 grid(cuda::blocks_for(x.cols, cuda::kThreads), static_cast<unsigned>(firsts.size() - 1));
  const cuda::Part* const parts = context.hand_over(members.data(), std::ssize(members));
  const std::int64_t* const begins = context.hand_over(firsts.data(), std::ssize(firsts));
  cuda::merge_kernel<<<grid, cuda::kThreads, 0, context.stream()>>>(x, parts, begins, x.cols);
  cuda::check_launch("merge_rows");
}

}  // namespace molt
