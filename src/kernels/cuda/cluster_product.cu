// A tile of 16 outputs would be too little work for too few blocks: its inputs are dealt out to the blocks of a
// cluster, which add up in each other's shared memory. Operands come from memory as they lie, as in matmul_tiles.cu.
#include "kernels/cuda/cluster_product.h"

#include <cooperative_groups.h>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/tensor_cores.cuh"

namespace molt::cuda {
namespace {

constexpr int kBlocks = 8;  // of a cluster
constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kRows = 16;
constexpr int kOutputs = 16;
constexpr int kStep = 32;  // inputs that a warp takes at a time
constexpr std::int64_t kMostOutputs = 512;

__global__ void __launch_bounds__(kThreads) cluster_kernel(const __nv_bfloat16* x, const __nv_bfloat16* w, int stride,
                                                           int rows, const __grid_constant__ StepOutput out) {
#if __CUDA_ARCH__ >= 900
  constexpr int kAhead = 3;  // steps whose weights are on their way
  __shared__ float parts[kWarps][kRows][kOutputs + 1];
  __shared__ float sums[kRows][kOutputs];
  const auto cluster = cooperative_groups::this_cluster();
  const int block = static_cast<int>(cluster.block_rank()), warp = static_cast<int>(threadIdx.x) / 32;
  const int n0 = static_cast<int>(blockIdx.y) * kOutputs;
  const Lane lane;
  const auto column = [&](int i) { return ((i * kBlocks + block) * kWarps + warp) * kStep + 8 * lane.q; };
  const auto fetch = [&](const __nv_bfloat16* from, int row, int limit, int i) {
    if (column(i) >= stride || row >= limit) return uint4{0, 0, 0, 0};
    return *reinterpret_cast<const uint4*>(from + static_cast<std::int64_t>(row) * stride + column(i));
  };
  uint4 ahead[kAhead][2];
  let_next_start();
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) ahead[i][half] = fetch(w, n0 + lane.g + 8 * half, out.outputs, i);
  }
  wait_for_previous();
  float products[2][4] = {};
  for (int first = 0; first * kBlocks * kWarps * kStep < stride; first += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const uint4 top = fetch(x, lane.g, rows, first + i), bottom = fetch(x, lane.g + 8, rows, first + i);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint4 now = ahead[i][half];
        ahead[i][half] = fetch(w, n0 + lane.g + 8 * half, out.outputs, first + i + kAhead);
        Narrow::add_product(products[half], {{top.x, bottom.x, top.y, bottom.y}}, {{now.x, now.y}});
        Narrow::add_product(products[half], {{top.z, bottom.z, top.w, bottom.w}}, {{now.z, now.w}});
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int e = 0; e < 4; ++e) parts[warp][lane.g + e / 2 * 8][half * 8 + 2 * lane.q + e % 2] = products[half][e];
  }
  __syncthreads();
  const int t = static_cast<int>(threadIdx.x) / kOutputs, n = static_cast<int>(threadIdx.x) % kOutputs;
  float sum = 0;
#pragma unroll
  for (int k = 0; k < kWarps; ++k) sum += parts[k][t][n];
  sums[t][n] = sum;
  cluster.sync();
  // Each block puts the rows that are its.
  if (t / (kRows / kBlocks) == block && t < rows && n0 + n < out.outputs) {
    float whole = 0;
#pragma unroll
    for (int from = 0; from < kBlocks; ++from) whole += *cluster.map_shared_rank(&sums[t][n], from);
    out.put(t, n0 + n, whole, 1.0F);
  }
  cluster.sync();  // nobody leaves while others read
#endif
}
static_assert(kThreads == kRows * kOutputs && kRows % kBlocks == 0);

}  // namespace

bool can_cluster(const Context& context, std::int64_t rows, const PackedRows& w) {
  // With fewer inputs blocks would have nothing to do.
  const std::int64_t least = std::int64_t{kBlocks} * kWarps * kStep;
  return context.is_hopper() && rows <= kRows && w.stored() == DType::bf16 && w.stride() >= least &&
         w.out_features() <= kMostOutputs;
}

void cluster_product(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedRows& w,
                     const StepOutput& out) {
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {kBlocks, 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;  // as launch_early()
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kBlocks, blocks_for(out.outputs, kOutputs));
  config.blockDim = dim3(kThreads);
  config.stream = context.stream();
  config.attrs = attributes;
  config.numAttrs = context.starts_early() ? 2 : 1;
  check(cudaLaunchKernelEx(&config, cluster_kernel, x, reinterpret_cast<const __nv_bfloat16*>(w.row(0)),
                           static_cast<int>(w.stride()), static_cast<int>(rows), out),
        "matmul of a few outputs");
}

}  // namespace molt::cuda
