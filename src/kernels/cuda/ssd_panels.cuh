// What the warpgroups of ssd_panels.cu do: one moves a head's state through a chunk, one computes the chunk's outputs;
// and the fetching of what both read.
#pragma once

#include "kernels/cuda/ssd_layout.h"
#include "kernels/cuda/stored_state.cuh"
#include "kernels/cuda/tensor_cores.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace molt::cuda::panels {

constexpr int kRows = kChunkRows;
constexpr int kColumns = wgmma::kPanelColumns;  // channels a head
constexpr int kGroupThreads = 128;              // of a warpgroup
constexpr int kPanel = wgmma::kPanelBytes;
constexpr int kUnit = 8;  // elements of 16 bytes
static_assert(kRows == wgmma::kPanelRows);

using Element = __nv_bfloat16;

/// Where things lie in shared memory, in bytes. kStates: of a head, rounded up.
template <int kHeads, int kStates>
struct Places {
  static constexpr int kPanels = kStates / kColumns;  // of B, of C, and of a state
  // What is fetched for a chunk:
  static constexpr int kB = 0;
  static constexpr int kC = kB + kPanels * kPanel;
  static constexpr int kGram = kC + kPanels * kPanel;
  static constexpr int kX = kGram + kPanel;
  static constexpr int kSteps = kX + kHeads * kPanel;
  static constexpr int kStage = kSteps + kHeads * kRows * 16;
  // Behind two of these, for each head: the state before this chunk and before the next one, x as it is added to the
  // state, y on its way out, D.
  static constexpr int kState = 2 * kStage;
  static constexpr int kScaled = kState + 2 * kHeads * kPanels * kPanel;
  static constexpr int kOut = kScaled + kHeads * kPanel;
  static constexpr int kD = kOut + kHeads * kPanel;
  static constexpr int kBytes = kD + kHeads * kColumns * 4;
  static_assert(kStage % 1024 == 0, "panels are to begin at multiples of 1024 bytes");
};

/// What both warpgroups of a head know.
template <int kHeads, int kStates>
struct Head {
  using P = Places<kHeads, kStates>;

  const Ssd& ssd;
  const SsdLayout<Element>& layout;
  unsigned char* shared;
  unsigned base;  // its address
  int own;        // which of the block's heads
  int h, p0, columns;

  __device__ const float4* steps(int stage) const {
    return reinterpret_cast<const float4*>(shared + stage + P::kSteps) + own * kRows;
  }
  __device__ int x(int stage) const { return stage + P::kX + own * kPanel; }
  __device__ int scaled() const { return P::kScaled + own * kPanel; }
  __device__ int out() const { return P::kOut + own * kPanel; }
  /// The copy of the state before a chunk, an even one or an odd one.
  __device__ unsigned state(int parity) const {
    return base + static_cast<unsigned>(P::kState + (2 * own + parity) * P::kPanels * kPanel);
  }
  __device__ float* D() const { return reinterpret_cast<float*>(shared + P::kD) + own * kColumns; }
};

__device__ inline int lane_in_group() {
  return static_cast<int>(threadIdx.x) % kGroupThreads;
}
__device__ inline int warp_in_group() {
  return lane_in_group() / 32;
}

/// A warp's 16 rows of a panel from sums, in bfloat16.
__device__ inline void show(unsigned panel, const float (&v)[wgmma::kTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = warp_in_group() * 16 + lane % 16;
  const unsigned to = panel + wgmma::place(row, lane / 16 * kUnit);
#pragma unroll
  for (int t = 0; t < wgmma::kTiles; t += 2) {
    wgmma::store_four(to ^ (t * 16), Narrow::pack(v[t][0], v[t][1]), Narrow::pack(v[t][2], v[t][3]),
                      Narrow::pack(v[t + 1][0], v[t + 1][1]), Narrow::pack(v[t + 1][2], v[t + 1][3]));
  }
}

/// The warpgroup that moves the state.
template <int kHeads, int kStates>
class Mover {
 public:
  using P = Places<kHeads, kStates>;

  __device__ explicit Mover(const Head<kHeads, kStates>& head) : head_(head) {}

  template <class T>
  __device__ void load(const StoredState<T>& state) {
    for_state([&](float& value, int n, int p) { value = state.get(n * head_.ssd.channels + head_.p0 + p); });
    show_state(0);
  }

  template <class T>
  __device__ void save(const StoredState<T>& state) {
    for_state([&](float& value, int n, int p) {
      const int column = head_.p0 + p;
      state.set(n * head_.ssd.channels + column, static_cast<std::uint32_t>(head_.h * head_.ssd.channels + column),
                static_cast<std::uint32_t>(n), value);
    });
  }

  /// Through a chunk of the given parity.
  __device__ void move(int stage, int parity) {
    show_scaled(stage);
    const float4 last = head_.steps(stage)[kRows - 1];
    const float decay = power_of_2(last.x + last.y);
#pragma unroll
    for (int panel = 0; panel < P::kPanels; ++panel) {
#pragma unroll
      for (int tile = 0; tile < wgmma::kTiles; ++tile) {
#pragma unroll
        for (int e = 0; e < 4; ++e) state_[panel][tile][e] *= decay;
      }
    }
    wgmma::publish();
    asm volatile("bar.sync %0, %1;" ::"r"(1 + head_.own), "n"(kGroupThreads) : "memory");
    const unsigned B = head_.base + static_cast<unsigned>(stage + P::kB);
    const unsigned scaled = head_.base + static_cast<unsigned>(head_.scaled());
    wgmma::begin();
#pragma unroll
    for (int panel = 0; panel < P::kPanels; ++panel) {
#pragma unroll
      for (int k = 0; k < kRows / 16; ++k) {
        wgmma::multiply<true>(state_[panel], wgmma::across(B + static_cast<unsigned>(panel * kPanel), k),
                              wgmma::across(scaled, k), true);
      }
    }
    wgmma::commit();
    wgmma::wait<0>();
    show_state(1 - parity);
  }

 private:
  /// body(value, n, p) for this thread's part of the state, within its bounds.
  template <class Body>
  __device__ void for_state(Body body) {
    const Lane lane;
#pragma unroll
    for (int panel = 0; panel < P::kPanels; ++panel) {
#pragma unroll
      for (int tile = 0; tile < wgmma::kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int n = panel * 64 + warp_in_group() * 16 + lane.g + i / 2 * 8, p = tile * 8 + 2 * lane.q + i % 2;
          if (n < head_.ssd.states && p < head_.columns) body(state_[panel][tile][i], n, p);
        }
      }
    }
  }

  __device__ void show_state(int parity) const {
#pragma unroll
    for (int panel = 0; panel < P::kPanels; ++panel) {
      show(head_.state(parity) + static_cast<unsigned>(panel * kPanel), state_[panel]);
    }
  }

  /// x times what the end of the chunk keeps of each row.
  __device__ void show_scaled(int stage) const {
    const int unit = lane_in_group() % 8;
#pragma unroll
    for (int r = lane_in_group() / 8; r < kRows; r += kGroupThreads / 8) {
      const unsigned place = wgmma::place(r, unit * kUnit);
      const uint4 x = *reinterpret_cast<const uint4*>(head_.shared + head_.x(stage) + place);
      const float kept = head_.steps(stage)[r].w;
      const auto times = [&](std::uint32_t pair) {
        return Narrow::pack(Narrow::low(pair) * kept, Narrow::high(pair) * kept);
      };
      *reinterpret_cast<uint4*>(head_.shared + head_.scaled() + place) = {times(x.x), times(x.y), times(x.z),
                                                                          times(x.w)};
    }
  }

  const Head<kHeads, kStates>& head_;
  float state_[P::kPanels][wgmma::kTiles][4] = {};
};

/// The warpgroup that computes outputs. Y: float or bf16.
template <int kHeads, int kStates, class Y>
class Writer {
 public:
  using P = Places<kHeads, kStates>;

  __device__ Writer(const Head<kHeads, kStates>& head, Rows<Y> y) : head_(head), y_(y) {
    if (head.ssd.D == nullptr) return;
    const float* const D = head.ssd.D + head.h * head.ssd.channels + head.p0;
    const int p = lane_in_group();
    if (p < kColumns) head.D()[p] = p < head.columns ? D[p] : 0.0F;
    bool same = true;
    for (int i = p % 32; i < head.columns; i += 32) same = same && D[i] == D[0];
    skips_alone_ = __all_sync(kAllLanes, same) == 0;
    if (!skips_alone_) skip_ = D[0];
  }

  /// Of a chunk of the given parity, `rows` rows from `first` on.
  __device__ void write(int stage, int parity, int first, int rows) const {
    const unsigned C = head_.base + static_cast<unsigned>(stage + P::kC);
    const unsigned x = head_.base + static_cast<unsigned>(head_.x(stage));
    float y[wgmma::kTiles][4];
    wgmma::begin();
#pragma unroll
    for (int k = 0; k < kStates / 16; ++k) {
      wgmma::multiply<false>(y, wgmma::along(C + static_cast<unsigned>(k / 4 * kPanel), k % 4),
                             wgmma::across(head_.state(parity), k), k > 0);
    }
    wgmma::commit();
    std::uint32_t decayed[kRows / 16][4];
    decay_products(stage, decayed);
    const int row = warp_in_group() * 16 + lane_.g;
    const float4 top_steps = head_.steps(stage)[row], bottom_steps = head_.steps(stage)[row + 8];
    const float top = power_of_2(top_steps.x + top_steps.y), bottom = power_of_2(bottom_steps.x + bottom_steps.y);
    wgmma::wait<0>();
#pragma unroll
    for (int tile = 0; tile < wgmma::kTiles; ++tile) {
      y[tile][0] *= top, y[tile][1] *= top, y[tile][2] *= bottom, y[tile][3] *= bottom;
    }
    wgmma::begin();
#pragma unroll
    for (int k = 0; k < kRows / 16; ++k) wgmma::multiply(y, decayed[k], wgmma::across(x, k));
    wgmma::commit();
    wgmma::wait<0>();
    if (skips_alone_) add_skip(y, stage);
    store(y, first, rows);
  }

 private:
  /// What row i keeps of row j's write: the exponents of both in two parts.
  static __device__ float kept(const float4& i, const float4& j) {
    return power_of_2((i.x - j.x) + (i.y - j.y));
  }

  /// C B' of the warp's rows with those of the chunk, decayed: zeros behind the diagonal. On it stands D, too, if it is
  /// one number for all channels.
  __device__ void decay_products(int stage, std::uint32_t (&decayed)[kRows / 16][4]) const {
    const unsigned char* const gram = head_.shared + stage + P::kGram;
    const float4* const steps = head_.steps(stage);
    const int row0 = warp_in_group() * 16;
    const float4 top = steps[row0 + lane_.g], bottom = steps[row0 + lane_.g + 8], first = steps[row0];
    const float from_first[2] = {kept(top, first), kept(bottom, first)};
#pragma unroll
    for (int k = 0; k < kRows / 16; ++k) {
#pragma unroll
      for (int part = 0; part < 4; ++part) decayed[k][part] = 0;
      if (k > warp_in_group()) continue;
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        const int j = k * 16 + t * 8 + 2 * lane_.q;
        const float4 even = steps[j], odd = steps[j + 1];
        // Earlier rows' writes decay to the warp's first row, then from there.
        const float even_first = kept(first, even) * even.z, odd_first = kept(first, odd) * odd.z;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int i = row0 + lane_.g + half * 8;
          const auto pair = *reinterpret_cast<const std::uint32_t*>(gram + wgmma::place(i, j));
          const float4& own = half == 0 ? top : bottom;
          if (k < warp_in_group()) {
            decayed[k][2 * t + half] = Narrow::pack(Narrow::low(pair) * (even_first * from_first[half]),
                                                    Narrow::high(pair) * (odd_first * from_first[half]));
            continue;
          }
          // What lies behind the diagonal of C B' was perhaps never written.
          const float at_even = j <= i ? Narrow::low(pair) * (kept(own, even) * even.z) : 0.0F;
          const float at_odd = j + 1 <= i ? Narrow::high(pair) * (kept(own, odd) * odd.z) : 0.0F;
          decayed[k][2 * t + half] =
              Narrow::pack(j == i ? at_even + skip_ : at_even, j + 1 == i ? at_odd + skip_ : at_odd);
        }
      }
    }
  }

  /// y += D x.
  __device__ void add_skip(float (&y)[wgmma::kTiles][4], int stage) const {
    const unsigned char* const x = head_.shared + head_.x(stage);
#pragma unroll
    for (int tile = 0; tile < wgmma::kTiles; ++tile) {
      const int p = tile * 8 + 2 * lane_.q;
      const float2 skip = *reinterpret_cast<const float2*>(head_.D() + p);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp_in_group() * 16 + lane_.g + half * 8;
        const auto pair = *reinterpret_cast<const std::uint32_t*>(x + wgmma::place(row, p));
        y[tile][2 * half] += skip.x * Narrow::low(pair);
        y[tile][2 * half + 1] += skip.y * Narrow::high(pair);
      }
    }
  }

  __device__ void store(const float (&y)[wgmma::kTiles][4], int first, int rows) const {
    const int column0 = head_.h * head_.ssd.channels + head_.p0;
    if constexpr (sizeof(Y) == 2) {  // by way of shared memory, 16 bytes a thread; y's rows are aligned
      show(head_.base + static_cast<unsigned>(head_.out()), y);
      __syncwarp();
      const int lane = static_cast<int>(threadIdx.x) % 32, unit = lane % 8;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = warp_in_group() * 16 + i * 4 + lane / 8;
        if (row >= rows || unit * kUnit >= head_.columns) continue;
        *reinterpret_cast<uint4*>(y_.row(first + row) + column0 + unit * kUnit) =
            *reinterpret_cast<const uint4*>(head_.shared + head_.out() + wgmma::place(row, unit * kUnit));
      }
      __syncwarp();
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp_in_group() * 16 + lane_.g + half * 8;
        if (row >= rows) continue;
        float* const to = y_.row(first + row) + column0;
        const bool pairs = reinterpret_cast<std::uintptr_t>(to) % 8 == 0;
#pragma unroll
        for (int tile = 0; tile < wgmma::kTiles; ++tile) {
          const int p = tile * 8 + 2 * lane_.q;
          const float y0 = y[tile][2 * half], y1 = y[tile][2 * half + 1];
          if (pairs && p + 1 < head_.columns) {
            *reinterpret_cast<float2*>(to + p) = {y0, y1};
          } else {
            if (p < head_.columns) to[p] = y0;
            if (p + 1 < head_.columns) to[p + 1] = y1;
          }
        }
      }
    }
  }

  const Head<kHeads, kStates>& head_;
  const Rows<Y> y_;
  const Lane lane_;
  float skip_ = 0;  // D, or 0
  bool skips_alone_ = false;
};

/// Fetches 16 bytes to shared memory while the thread goes on; zeros unless `there`.
__device__ inline void fetch_16(unsigned to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0));
}

/// What a chunk's products take, fetched by the warpgroups that move states, which have less to do.
template <int kHeads, int kStates>
class Fetcher {
 public:
  using P = Places<kHeads, kStates>;
  static constexpr int kThreads = kHeads * kGroupThreads;
  static constexpr int kAtOnce = kThreads / 8;  // rows

  __device__ Fetcher(const SsdLayout<Element>& layout, int first_head, int p0, int group, unsigned base)
      : layout_(layout), first_head_(first_head), p0_(p0), group_(group), base_(base) {}

  __device__ void fetch(int first, int rows, int stage) const {
    const int unit = static_cast<int>(threadIdx.x) % 8, column = unit * kUnit;
#pragma unroll
    for (int r = static_cast<int>(threadIdx.x) / 8; r < kRows; r += kAtOnce) {
      const unsigned to = base_ + static_cast<unsigned>(stage) + wgmma::place(r, column);
      const bool is_row = r < rows;
      const Element* const row = layout_.row(first + (is_row ? r : 0)) + column;
      const auto fetch = [&](int place, int from, int columns) {
        const bool there = is_row && column < columns;
        fetch_16(to + static_cast<unsigned>(place), there ? row + from : layout_.data, there);
      };
#pragma unroll
      for (int panel = 0; panel < P::kPanels; ++panel) {
        const int before = panel * kColumns;
        fetch(P::kB + panel * kPanel, layout_.B(group_) + before, layout_.states - before);
        fetch(P::kC + panel * kPanel, layout_.C(group_) + before, layout_.states - before);
      }
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        fetch(P::kX + h * kPanel, layout_.x(first_head_ + h) + p0_, layout_.channels - p0_);
      }
      fetch_16(to + P::kGram, layout_.products(first + (is_row ? r : 0), group_) + column, is_row);
    }
    // Behind the last row nothing decays; nothing is added either, x being zero there.
    const int h = static_cast<int>(threadIdx.x) / kRows, r = static_cast<int>(threadIdx.x) % kRows;
    if (h < kHeads) {
      fetch_16(base_ + static_cast<unsigned>(stage + P::kSteps + (h * kRows + r) * 16),
               &layout_.steps(first + min(r, rows - 1), first_head_ + h), true);
    }
    asm volatile("cp.async.commit_group;");
  }

  static __device__ void wait() {
    asm volatile("cp.async.wait_group 0;" ::: "memory");
  }

 private:
  const SsdLayout<Element>& layout_;
  const int first_head_, p0_, group_;
  const unsigned base_;
};

}  // namespace molt::cuda::panels
