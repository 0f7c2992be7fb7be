#include "kernels/cuda/ssd_layout.h"

namespace molt::cuda {
namespace {

constexpr int kThreads = 128;
constexpr double kLog2e = 1.4426950408889634;

template <class Element>
constexpr int kUnit = 16 / sizeof(Element);  // elements that are padded to

__device__ inline void store_unit(float* to, const float (&v)[4]) {
  *reinterpret_cast<float4*>(to) = {v[0], v[1], v[2], v[3]};
}

__device__ inline void store_unit(__nv_bfloat16* to, const float (&v)[8]) {
  __nv_bfloat162 pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
  *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(pairs);
}

/// A block lays out a row, 16 bytes a thread at a time. kFours: what is read is aligned.
template <class Element, bool kFours>
__global__ void __launch_bounds__(kThreads) rows_kernel(Ssd ssd, SsdLayout<Element> layout) {
  constexpr int kEach = kUnit<Element>;
  const int t = layout.first_row + static_cast<int>(blockIdx.x);
  const int units = static_cast<int>(layout.stride) / kEach;
  const int x_units = layout.heads * layout.channels / kEach;
  const int b_units = layout.groups * layout.states / kEach;
  for (int u = threadIdx.x; u < units; u += kThreads) {
    // Which part of which head or group this is.
    const bool of_x = u < x_units;
    const bool of_b = u < x_units + b_units;
    const int within = (of_x ? u : of_b ? u - x_units : u - x_units - b_units) * kEach;
    const int padded = of_x ? layout.channels : layout.states;
    const int width = of_x ? ssd.channels : ssd.states;
    const int part = within / padded, column = within - part * padded;
    const float* const from = (of_x ? ssd.x : of_b ? ssd.B : ssd.C).row(t) + part * width + column;
    float v[kEach];
#pragma unroll
    for (int i = 0; i < kEach; i += 4) {
      if (kFours && column + i < width) {
        const float4 four = *reinterpret_cast<const float4*>(from + i);
        v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
        continue;
      }
#pragma unroll
      for (int k = i; k < i + 4; ++k) v[k] = !kFours && column + k < width ? from[k] : 0.0F;
    }
    store_unit(layout.row(t) + u * kEach, v);
  }
}

constexpr int kParts = 8;  // of a chunk
constexpr int kPartRows = kChunkRows / kParts;

/// A block sums the steps of 32 heads over a chunk, in double precision: a warp a part of the rows.
template <class Element>
__global__ void __launch_bounds__(32 * kParts)
    sums_kernel(const __grid_constant__ SequenceTable table, Ssd ssd, SsdLayout<Element> layout) {
  __shared__ double sums[kParts][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, part = static_cast<int>(threadIdx.x) / 32;
  const int h = static_cast<int>(blockIdx.y) * 32 + lane;
  const int s = static_cast<int>(blockIdx.z);
  const int chunk = table.offsets[s] + static_cast<int>(blockIdx.x) * kChunkRows;
  const int end = min(chunk + kChunkRows, table.offsets[s + 1]);
  if (chunk >= end) return;
  const bool is_head = h < layout.heads;
  const double rate = is_head ? static_cast<double>(ssd.A[h]) * kLog2e : 0.0;
  float dt[kPartRows];
  double exponents[kPartRows], sum = 0;
#pragma unroll
  for (int i = 0; i < kPartRows; ++i) {
    const int t = chunk + part * kPartRows + i;
    dt[i] = is_head && t < end ? ssd.dt.row(t)[h] : 0.0F;
    const float m = ssd.multiplicity == nullptr || t >= end ? 1.0F : ssd.multiplicity[t];
    exponents[i] = static_cast<double>(dt[i]) * static_cast<double>(m) * rate;
    sum += exponents[i];
  }
  sums[part][lane] = sum;
  __syncthreads();
  double cum = 0, later = 0;
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
    if (p < part) cum += sums[p][lane];
    if (p > part) later += sums[p][lane];
  }
  float behind[kPartRows];
#pragma unroll
  for (int i = kPartRows - 1; i >= 0; --i) {
    behind[i] = power_of_2(static_cast<float>(later)) * dt[i];
    later += exponents[i];
  }
#pragma unroll
  for (int i = 0; i < kPartRows; ++i) {
    const int t = chunk + part * kPartRows + i;
    cum += exponents[i];
    const auto narrow = static_cast<float>(cum);
    if (is_head && t < end) {
      layout.steps(t, h) = {narrow, static_cast<float>(cum - static_cast<double>(narrow)), dt[i], behind[i]};
    }
  }
}

template <class T>
bool in_fours(Rows<T> m) {
  return is_aligned(m.data) && m.stride % 4 == 0;
}

template <class Element>
void sum_steps(const Context& context, const SequenceTable& table, const Ssd& ssd, const SsdLayout<Element>& layout) {
  int longest = 0;
  for (int s = 0; s < table.count; ++s) longest = std::max(longest, table.length(s));
  const dim3 grid(blocks_for(longest, kChunkRows), blocks_for(ssd.heads, 32), static_cast<unsigned>(table.count));
  sums_kernel<<<grid, 32 * kParts, 0, context.stream()>>>(table, ssd, layout);
}

}  // namespace

SsdLayout<__nv_bfloat16> lay_over(Context& context, const SequenceTable& table, const Ssd& ssd, __nv_bfloat16* data) {
  SsdLayout<__nv_bfloat16> layout{};
  layout.data = data;
  layout.first_row = table.offsets[0];
  layout.heads = ssd.heads;
  layout.groups = ssd.groups;
  layout.channels = ssd.channels;
  layout.states = ssd.states;
  layout.stride = layout.heads * layout.channels + 2 * layout.groups * layout.states;
  const std::int64_t rows = table.offsets[table.count] - layout.first_row;
  std::byte* const room = context.scratch(ssd_sums_scratch(rows, ssd.heads, ssd.groups));
  layout.sums = reinterpret_cast<float4*>(room);
  layout.gram = reinterpret_cast<__nv_bfloat16*>(room + rows * ssd.heads * 16);
  sum_steps(context, table, ssd, layout);
  check_launch("summing the steps of ssd");
  return layout;
}

template <class Element>
SsdLayout<Element> lay_out(Context& context, const SequenceTable& table, const Ssd& ssd) {
  constexpr DType kType = sizeof(Element) == 2 ? DType::bf16 : DType::f32;
  const auto padded = [](int n) { return static_cast<int>(padded_inputs(n, kType)); };
  SsdLayout<Element> layout{};
  layout.first_row = table.offsets[0];
  layout.heads = ssd.heads;
  layout.groups = ssd.groups;
  layout.channels = padded(ssd.channels);
  layout.states = padded(ssd.states);
  layout.stride = layout.heads * layout.channels + 2 * layout.groups * layout.states;
  const std::int64_t rows = table.offsets[table.count] - layout.first_row;
  const shapes::SsdShape shape{ssd.heads, ssd.channels, ssd.states, ssd.groups};
  std::byte* const room = context.scratch(ssd_scratch(rows, shape, kType));
  layout.sums = reinterpret_cast<float4*>(room);
  layout.data = reinterpret_cast<Element*>(room + rows * ssd.heads * 16);
  layout.gram = layout.data + rows * layout.stride;

  const bool fours =
      in_fours(ssd.x) && in_fours(ssd.B) && in_fours(ssd.C) && ssd.channels % 4 == 0 && ssd.states % 4 == 0;
  const auto kernel = fours ? rows_kernel<Element, true> : rows_kernel<Element, false>;
  kernel<<<static_cast<unsigned>(rows), kThreads, 0, context.stream()>>>(ssd, layout);
  sum_steps(context, table, ssd, layout);
  check_launch("laying out the rows of ssd");
  return layout;
}

template SsdLayout<float> lay_out<float>(Context&, const SequenceTable&, const Ssd&);
template SsdLayout<__nv_bfloat16> lay_out<__nv_bfloat16>(Context&, const SequenceTable&, const Ssd&);

}  // namespace molt::cuda
