// The state space dual scan in chunks on compute capability 9.0, in bfloat16: what ssd_chunks.cu computes, with
// products of warpgroups (wgmma.cuh) and each chunk's rows fetched while the chunk before is computed.
//
// A block takes one or two heads of a group, 64 channels of each, through a whole sequence; they share B, C and C B'. A
// head has two warpgroups. One keeps the state in registers and moves it on, and leaves a copy in bfloat16 for the
// other one, which meanwhile computes the outputs of the chunk before that.
#include "kernels/cuda/ssd_panels.cuh"

namespace molt::cuda {
namespace {

using namespace panels;  // NOLINT(google-build-using-namespace)

/// A head's warpgroups through a sequence. T: of the state as it is stored.
template <int kHeads, int kStates, class T, class Y>
__device__ void run(const SequenceTable& table, int s, const Head<kHeads, kStates>& head, bool moves,
                    const Fetcher<kHeads, kStates>& fetcher, Rows<Y> y) {
  constexpr int kStage = Places<kHeads, kStates>::kStage;
  const int begin = table.offsets[s], end = table.offsets[s + 1];
  if (moves) fetcher.fetch(begin, min(kRows, end - begin), 0);
  // Calls work(stage, parity, first, rows) for each chunk.
  const auto for_chunks = [&](auto work) {
    for (int first = begin, parity = 0; first < end; first += kRows, parity ^= 1) {
      fetcher.wait();
      wgmma::publish();
      __syncthreads();  // this chunk and the state before it are there, and nobody reads those before any more
      const int next = first + kRows;
      if (moves && next < end) fetcher.fetch(next, min(kRows, end - next), parity == 0 ? kStage : 0);
      work(parity * kStage, parity, first, min(kRows, end - first));
    }
  };
  if (moves) {
    const StoredState<T> state{static_cast<T*>(table.states[s]) + head.ssd.state_offset(head.h), table.key(s)};
    Mover<kHeads, kStates> mover(head);
    mover.load(state);
    for_chunks([&](int stage, int parity, int, int) { mover.move(stage, parity); });
    mover.save(state);
  } else {
    const Writer<kHeads, kStates, Y> writer(head, y);
    for_chunks([&](int stage, int parity, int first, int rows) { writer.write(stage, parity, first, rows); });
  }
}

template <int kHeads, int kStates, class Y>
__global__ void __launch_bounds__(2 * kHeads * kGroupThreads, 1)
    panel_kernel(const __grid_constant__ SequenceTable table, const __grid_constant__ Ssd ssd,
                 const __grid_constant__ SsdLayout<Element> layout, Rows<Y> y, bool rounded, int least_rows) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const int s = static_cast<int>(blockIdx.z);
  if (table.length(s) <= least_rows) return;
  // The same in all lanes of a warp, which the compiler is to know.
  const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kGroupThreads, 0);
  const int first_head = static_cast<int>(blockIdx.y) * kHeads, p0 = static_cast<int>(blockIdx.x) * kColumns;
  const unsigned base = shared_address(memory);
  const int own = warpgroup % kHeads;
  const Head<kHeads, kStates> head{ssd, layout,           memory, base,
                                   own, first_head + own, p0,     min(kColumns, ssd.channels - p0)};
  const Fetcher<kHeads, kStates> fetcher(layout, first_head, p0, first_head / (ssd.heads / ssd.groups), base);
  const bool moves = warpgroup < kHeads;
  if (rounded) {
    run<kHeads, kStates, __nv_bfloat16>(table, s, head, moves, fetcher, y);
  } else {
    run<kHeads, kStates, float>(table, s, head, moves, fetcher, y);
  }
}

template <int kHeads, int kStates, class Y>
void launch(const Context& context, const SequenceTable& table, const Ssd& ssd, const SsdLayout<Element>& layout,
            Rows<Y> y, bool rounded, int least_rows) {
  const auto kernel = panel_kernel<kHeads, kStates, Y>;
  constexpr int kBytes = Places<kHeads, kStates>::kBytes;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "shared memory of ssd");
  const dim3 grid(blocks_for(ssd.channels, kColumns), static_cast<unsigned>(ssd.heads / kHeads),
                  static_cast<unsigned>(table.count));
  kernel<<<grid, 2 * kHeads * kGroupThreads, kBytes, context.stream()>>>(table, ssd, layout, y, rounded, least_rows);
  check_launch("ssd in panels");
}

template <class Y>
void launch(const Context& context, const SequenceTable& table, const Ssd& ssd, const SsdLayout<Element>& layout,
            Rows<Y> y, bool rounded, int least_rows) {
  // Two heads share what they read, if that leaves work for all multiprocessors.
  const unsigned pairs = blocks_for(ssd.channels, kColumns) * static_cast<unsigned>(ssd.heads / 2 * table.count);
  const bool two = ssd.heads / ssd.groups % 2 == 0 && pairs >= static_cast<unsigned>(context.processors());
  if (ssd.states <= 64) {
    two ? launch<2, 64>(context, table, ssd, layout, y, rounded, least_rows)
        : launch<1, 64>(context, table, ssd, layout, y, rounded, least_rows);
  } else {
    two ? launch<2, 128>(context, table, ssd, layout, y, rounded, least_rows)
        : launch<1, 128>(context, table, ssd, layout, y, rounded, least_rows);
  }
}

}  // namespace

bool can_use_panels(const Context& context, int states) {
  if (states > 128 || !context.is_hopper()) return false;
  // Whether this program has code for this very device (and not only what the driver made of older one).
  static const bool compiled = [] {
    cudaFuncAttributes attributes{};
    const bool found = cudaFuncGetAttributes(&attributes, panel_kernel<1, 64, float>) == cudaSuccess;
    cudaGetLastError();
    return found && attributes.ptxVersion >= 90;
  }();
  return compiled;
}

void ssd_panels(const Context& context, const SequenceTable& table, const Ssd& ssd, const SsdLayout<Element>& layout,
                Rows<float> y, bool rounded, int least_rows) {
  launch(context, table, ssd, layout, y, rounded, least_rows);
}

void ssd_panels(const Context& context, const SequenceTable& table, const Ssd& ssd, const SsdLayout<Element>& layout,
                Rows<Element> y, bool rounded, int least_rows) {
  launch(context, table, ssd, layout, y, rounded, least_rows);
}

}  // namespace molt::cuda
