// Weights in bfloat16 on their way through shared memory, for products of a few rows, which are bound by reading the
// weights once.
//
// A warp of the block does nothing but fetch (RingWriter): whole rows of weights, a bulk copy each, tile after tile, as
// far ahead as the ring reaches. The others wait for tiles and give their places back (RingReader). How much of it is
// on its way at a time is limited: all that is asked for beyond what the memory needs to be busy only stands in its
// queues, and whatever else is read waits behind it.
#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/bulk_copies.cuh"

namespace molt::cuda {

constexpr int kMostRingSlots = 16;
constexpr int kRingHalves = 2;            // of a tile, each with a barrier of its own
constexpr int kRingInFlight = 40 * 1024;  // bytes a block

/// How a block shares out its ring.
struct RingShape {
  int inputs;     // of a row
  int tile;       // rows, a power of 2
  int slots;      // tiles
  int in_flight;  // halves of tiles on their way

  /// Tiles of up to `outputs` rows and, unless two rows are more, so many bytes, in `bytes` of shared memory.
  static RingShape of(int inputs, int outputs, int tile_bytes, int bytes) {
    RingShape shape{.inputs = inputs, .tile = outputs, .slots = 0, .in_flight = 0};
    while (shape.tile > kRingHalves && shape.tile * inputs * 2 > tile_bytes) shape.tile /= 2;
    shape.slots = std::min(kMostRingSlots, bytes / (shape.elements() * 2));
    const int half = shape.tile / kRingHalves * inputs * 2;
    shape.in_flight = std::clamp(kRingInFlight / half, 2, kRingHalves * shape.slots);
    return shape;
  }

  /// Between rows in shared memory: two rows side by side meet all banks once, 64 bytes of each.
  __host__ __device__ int stride() const { return inputs + (inputs / 32 % 2 == 0 ? 32 : 0); }
  /// Of a slot.
  __host__ __device__ int elements() const { return tile * stride(); }
  __host__ __device__ int bytes() const { return slots * elements() * 2; }
};

struct RingBarriers {
  alignas(8) std::uint64_t arrived[kMostRingSlots][kRingHalves];
  alignas(8) std::uint64_t freed[kMostRingSlots];

  /// By a block's first threads, for so many warps that read; then all of it waits for each other.
  __device__ void make(const RingShape& shape, int readers) {
    const int slot = static_cast<int>(threadIdx.x);
    if (slot >= shape.slots) return;
    for (std::uint64_t& half : arrived[slot]) make_barrier(&half, 1);
    make_barrier(&freed[slot], readers);
    publish_barriers();
  }
};

/// A block's: `weights` [shape.bytes()] in shared memory, aligned to 128 bytes.
struct Ring {
  const RingShape& shape;
  RingBarriers& barriers;
  __nv_bfloat16* weights;
};

/// For a whole warp.
class RingWriter {
 public:
  __device__ explicit RingWriter(const Ring& ring) : ring_(ring), policy_(read_once()) {}

  /// `count` rows without gaps.
  __device__ void put(const __nv_bfloat16* rows, int count) {
    const RingShape& shape = ring_.shape;
    const int lane = static_cast<int>(threadIdx.x) % 32, half = shape.tile / kRingHalves;
    for (int first = 0; first < count; first += shape.tile) {
      if (laps_ > 0) wait_for(&ring_.barriers.freed[slot_], (laps_ - 1) % 2);
      __nv_bfloat16* const to = ring_.weights + slot_ * shape.elements();
      for (int h = 0; h < kRingHalves; ++h) {
        keep_pace();
        const int from = first + h * half, here = max(0, min(half, count - from));
        std::uint64_t* const arrived = &ring_.barriers.arrived[slot_][h];
        if (lane == 0) expect(arrived, here * shape.inputs * 2);
        __syncwarp();
        if (lane < here) {
          bulk_copy(to + (h * half + lane) * shape.stride(),
                    rows + static_cast<std::int64_t>(from + lane) * shape.inputs, shape.inputs * 2, arrived, policy_);
        }
      }
      if (++slot_ == shape.slots) slot_ = 0, ++laps_;
    }
  }

 private:
  /// Waits until the half that was asked for in_flight halves ago has come.
  __device__ void keep_pace() {
    if (asked_++ < ring_.shape.in_flight) return;
    wait_for(&ring_.barriers.arrived[behind_ / kRingHalves][behind_ % kRingHalves], behind_laps_ % 2);
    if (++behind_ == kRingHalves * ring_.shape.slots) behind_ = 0, ++behind_laps_;
  }

  const Ring ring_;
  const std::uint64_t policy_;
  int slot_ = 0, laps_ = 0;
  int asked_ = 0, behind_ = 0, behind_laps_ = 0;
};

/// For each of the warps that read.
class RingReader {
 public:
  __device__ explicit RingReader(const Ring& ring) : ring_(ring) {}

  __device__ const RingShape& shape() const { return ring_.shape; }

  /// The next tile, when it is there.
  __device__ const __nv_bfloat16* take() const {
    for (std::uint64_t& half : ring_.barriers.arrived[slot_]) wait_for(&half, laps_ % 2);
    return ring_.weights + slot_ * ring_.shape.elements();
  }

  /// The warp has read it.
  __device__ void give_back() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) arrive(&ring_.barriers.freed[slot_]);
    if (++slot_ == ring_.shape.slots) slot_ = 0, ++laps_;
  }

 private:
  const Ring ring_;
  int slot_ = 0, laps_ = 0;
};

}  // namespace molt::cuda
