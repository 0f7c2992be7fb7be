// Products of a few rows: bound by reading the weights once.
#include "kernels/cuda/matmul_few.h"

#include <algorithm>

namespace molt::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kFewRows = 4;
constexpr int kMostPacks = 10;

/// Weights from 16 bytes.
template <class T>
struct Pack;
template <>
struct Pack<float> {
  static constexpr int kCount = 4;
  static __device__ void unpack(uint4 v, float (&values)[4]) {
    values[0] = __uint_as_float(v.x), values[1] = __uint_as_float(v.y);
    values[2] = __uint_as_float(v.z), values[3] = __uint_as_float(v.w);
  }
};
template <>
struct Pack<__nv_bfloat16> {
  static constexpr int kCount = 8;
  static __device__ void unpack(uint4 v, float (&values)[8]) {
    const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[2 * i] = __uint_as_float(words[i] << 16);
      values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
    }
  }
};

constexpr int kSlices = 4;                       // of an output's weights, a warp each
constexpr int kTeams = kThreads / 32 / kSlices;  // of warps, with outputs of their own

/// What a kernel of few rows takes at a time.
template <int kPacks>
struct Few {
  static constexpr int kEach = kPacks <= 5 ? 2 : 1;  // outputs of a team
  static constexpr int kOutputs = kTeams * kEach;    // of a block
};

/// y[t, n] for kRows rows. The rows of x stand in shared memory, rounded as T is; weights are fetched a turn ahead, the
/// first ones before the kernel before this one has ended. kPacks: of 16 bytes, that a lane takes of a slice. X: float
/// or T.
template <class T, class X, int kRows, int kPacks>
__global__ void __launch_bounds__(kThreads)
    few_rows_kernel(Rows<const X> x, int in, const T* w, std::int64_t w_stride, const __grid_constant__ StepOutput out,
                    const __grid_constant__ StateShift shift) {
  constexpr int kCount = Pack<T>::kCount, kEach = Few<kPacks>::kEach, kOutputs = Few<kPacks>::kOutputs;
  const int outputs = out.outputs;
  extern __shared__ __align__(16) unsigned char memory[];
  T* const inputs = reinterpret_cast<T*>(memory);  // [kRows, w_stride]
  __shared__ float parts[2][kOutputs][kSlices][kRows];
  __shared__ float scales[kRows];
  const int padded = static_cast<int>(w_stride);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int slice = warp % kSlices, team = warp / kSlices;
  // A lane's packs: kSlices * 32 of them apart, the slices interleaved.
  const auto place = [&](int i) { return ((i * kSlices + slice) * 32 + lane) * kCount; };
  uint4 ahead[kEach][kPacks];
  const auto fetch = [&](int first) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int n = first + team * kEach + e;
#pragma unroll
      for (int i = 0; i < kPacks; ++i) {
        ahead[e][i] = {0, 0, 0, 0};
        if (n >= outputs || place(i) >= padded) continue;
        ahead[e][i] = __ldcs(reinterpret_cast<const uint4*>(w + n * w_stride + place(i)));
      }
    }
  };
  let_next_start();
  fetch(static_cast<int>(blockIdx.x) * kOutputs);
  const int step = static_cast<int>(gridDim.x) * kOutputs;
  const int second = static_cast<int>(blockIdx.x) * kOutputs + step;
  if (second < outputs) {
    fetch_ahead(w + second * w_stride, min(kOutputs, outputs - second) * w_stride * static_cast<int>(sizeof(T)), 0, 1);
  }
  wait_for_previous();
#pragma unroll
  for (int t = 0; t < kRows; ++t) {
    for (int k = threadIdx.x; k < padded; k += kThreads) {
      inputs[t * padded + k] = k < in ? static_cast<T>(x.row(t)[k]) : static_cast<T>(0.0F);
    }
  }
  shift.run(threadIdx.x, blockDim.x);
  if (out.squares != nullptr && warp < kRows) {
    const float scale = out.scale(warp);
    if (lane == 0) scales[warp] = scale;
  }
  __syncthreads();
  for (int first = static_cast<int>(blockIdx.x) * kOutputs, round = 0; first < outputs; first += step, round ^= 1) {
    float sums[kEach][kRows] = {};
    uint4 now[kEach][kPacks];
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
#pragma unroll
      for (int i = 0; i < kPacks; ++i) now[e][i] = ahead[e][i];
    }
    fetch(first + step);
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      if (place(i) >= padded) break;
      float weights[kEach][kCount];
#pragma unroll
      for (int e = 0; e < kEach; ++e) Pack<T>::unpack(now[e][i], weights[e]);
#pragma unroll
      for (int t = 0; t < kRows; ++t) {
        float v[kCount];
        Pack<T>::unpack(*reinterpret_cast<const uint4*>(inputs + t * padded + place(i)), v);
#pragma unroll
        for (int e = 0; e < kEach; ++e) {
#pragma unroll
          for (int k = 0; k < kCount; ++k) sums[e][t] += weights[e][k] * v[k];
        }
      }
    }
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
#pragma unroll
      for (int t = 0; t < kRows; ++t) {
        const float sum = warp_sum(sums[e][t]);
        if (lane == 0) parts[round][team * kEach + e][slice][t] = sum;
      }
    }
    __syncthreads();
    const int e = lane / kRows, t = lane % kRows, n = first + team * kEach + e;
    if (slice == 0 && e < kEach && n < outputs) {
      float sum = 0;
#pragma unroll
      for (int s = 0; s < kSlices; ++s) sum += parts[round][team * kEach + e][s][t];
      out.put(t, n, sum, out.squares != nullptr ? scales[t] : 1.0F);
    }
  }
}

template <class T, class X, int kRows, int kPacks>
void launch_few(Rows<const X> x, int in, const PackedRows& w, std::int64_t first, const StepOutput& out,
                const StateShift& shift) {
  const Context& context = Context::get();
  const auto shared = static_cast<std::size_t>(kRows * w.stride() * size_of(w.stored()));
  const auto kernel = few_rows_kernel<T, X, kRows, kPacks>;
  if (shared > 47 << 10) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "shared memory of a product");
  }
  const unsigned most = static_cast<unsigned>(context.processors()) * 4;
  const unsigned grid = std::min(blocks_for(out.outputs, Few<kPacks>::kOutputs), most);
  launch_early(context, "matmul of a few rows", kernel, grid, kThreads, shared, x, in,
               reinterpret_cast<const T*>(w.row(first)), w.stride(), out, shift);
}

/// Packs that a lane takes of a slice.
std::int64_t packs(const PackedRows& w) {
  const std::int64_t at_once = 32 * kSlices * 16 / size_of(w.stored());
  return (w.stride() + at_once - 1) / at_once;
}

template <class T, class X, int kRows>
void few_rows(Rows<const X> x, int in, const PackedRows& w, std::int64_t first, const StepOutput& out,
              const StateShift& shift) {
  if (packs(w) <= 3) return launch_few<T, X, kRows, 3>(x, in, w, first, out, shift);
  if (packs(w) <= 5) return launch_few<T, X, kRows, 5>(x, in, w, first, out, shift);
  launch_few<T, X, kRows, kMostPacks>(x, in, w, first, out, shift);
}

template <class T, class X>
void few_rows(Rows<const X> x, std::int64_t rows, int in, const PackedRows& w, std::int64_t first,
              const StepOutput& out, const StateShift& shift) {
  switch (rows) {
    case 1: return few_rows<T, X, 1>(x, in, w, first, out, shift);
    case 2: return few_rows<T, X, 2>(x, in, w, first, out, shift);
    case 3: return few_rows<T, X, 3>(x, in, w, first, out, shift);
    default: return few_rows<T, X, 4>(x, in, w, first, out, shift);
  }
}

}  // namespace

bool are_few(std::int64_t rows, const PackedRows& w) {
  return rows <= kFewRows && packs(w) <= kMostPacks &&
         rows * w.stride() * size_of(w.stored()) < Context::get().block_shared_bytes() - (2 << 10);
}

void few_rows(Matrix<const float> x, const PackedRows& w, const float* bias, Matrix<float> y, std::int64_t first) {
  const StepOutput out{.bias = bias, .y = y, .outputs = static_cast<int>(y.cols)};
  const int in = static_cast<int>(x.cols);
  w.stored() == DType::f32 ? few_rows<float, float>(x, x.rows, in, w, first, out, {})
                           : few_rows<__nv_bfloat16, float>(x, x.rows, in, w, first, out, {});
}

void few_rows(Rows<const __nv_bfloat16> x, std::int64_t rows, const PackedRows& w, const StepOutput& out,
              const StateShift& shift) {
  few_rows<__nv_bfloat16, __nv_bfloat16>(x, rows, static_cast<int>(w.in_features()), w, 0, out, shift);
}

}  // namespace molt::cuda
