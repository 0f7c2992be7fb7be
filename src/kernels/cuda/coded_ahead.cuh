// Ahead: a warp's coded weights on their way, item by item. An item is the part of a tile that a warp takes at a time.
//
//   ahead.start();                                 // asks for the first
//   for each item: ahead.begin();
//     for each of its chunks c: ... ahead.unit(c) ...; ahead.used(c);
//     ahead.end();
#pragma once

#include "kernels/cuda/coded_units.cuh"

namespace molt::cuda {

constexpr int kOwn = 5;         // chunks of an item, at the most
constexpr int kMostStages = 4;  // items on their way through shared memory

/// How a product's inputs are divided.
struct Division {
  int own;     // chunks a warp, at a time
  int passes;  // how often that covers all of them
  int stages;  // items on their way through shared memory
};

/// A warp's share of a block's tiles.
struct Share {
  const Division& division;
  int tiles, first_tile;  // of the product; the weights' tile at which it begins
  int warps, warp, lane;

  __device__ int first_chunk(int pass) const { return (pass * warps + warp) * division.own; }
  __device__ int chunks(const Coded& w, int pass) const { return min(division.own, w.chunks - first_chunk(pass)); }
};

/// Goes through a block's items.
struct Cursor {
  int tile = static_cast<int>(blockIdx.x), pass = 0;

  __device__ void advance(const Division& division) {
    if (++pass == division.passes) pass = 0, tile += static_cast<int>(gridDim.x);
  }
};

template <Coding kCoding, bool kThroughShared>
class Ahead;

/// In registers: one item ahead.
template <Coding kCoding>
class Ahead<kCoding, false> {
 public:
  __device__ Ahead(const Coded& w, const Share& share, std::byte* /*ring*/) : w_(w), share_(share) {}

  __device__ void start() {
    begin();
#pragma unroll
    for (int c = 0; c < kOwn; ++c) used(c);
    end();
  }
  __device__ void begin() {
    chunks_ = next_.tile < share_.tiles ? share_.chunks(w_, next_.pass) : 0;
  }
  __device__ const Unit<kCoding>& unit(int c) const {
    return units_[c];
  }
  __device__ void used(int c) {
    if (c < chunks_) {
      units_[c].load(w_, share_.first_tile + next_.tile, share_.first_chunk(next_.pass) + c, share_.lane);
    }
  }
  __device__ void end() {
    next_.advance(share_.division);
  }

 private:
  const Coded& w_;
  const Share& share_;
  Cursor next_;
  int chunks_ = 0;  // of the next item
  Unit<kCoding> units_[kOwn];
};

/// Bytes of a chunk in shared memory.
template <Coding kCoding>
constexpr int kChunkBytes = 32 * (Unit<kCoding>::kCodeBytes + 4 * Unit<kCoding>::kSides);

/// Through a ring in shared memory, [stages, warps, own] chunks.
template <Coding kCoding>
class Ahead<kCoding, true> {
 public:
  __device__ Ahead(const Coded& w, const Share& share, std::byte* ring)
      : w_(w), share_(share), ring_(ring + share.warp * share.division.own * kChunkBytes<kCoding>) {}

  __device__ void start() {
    for (int i = 0; i < share_.division.stages; ++i) fetch();
  }
  __device__ void begin() const { wait(share_.division.stages - 1); }
  __device__ Unit<kCoding> unit(int c) const {
    const std::byte* const chunk = slot(slot_) + c * kChunkBytes<kCoding>;
    Unit<kCoding> unit;
    unit.take(w_.halves, share_.lane, chunk + share_.lane * U::kCodeBytes,
              reinterpret_cast<const std::uint32_t*>(chunk + 32 * U::kCodeBytes) + share_.lane);
    return unit;
  }
  __device__ void used(int /*c*/) const {}
  __device__ void end() {
    fetch();
    if (++slot_ == share_.division.stages) slot_ = 0;
  }

 private:
  using U = Unit<kCoding>;

  __device__ std::byte* slot(int i) const {
    return ring_ + i * share_.warps * share_.division.own * kChunkBytes<kCoding>;
  }

  __device__ void fetch() {
    if (next_.tile < share_.tiles) {
      const int chunks = share_.chunks(w_, next_.pass), chunk = share_.first_chunk(next_.pass);
      const auto* codes = U::codes_of(w_, share_.first_tile + next_.tile, chunk, share_.lane);
      const std::uint32_t* side = U::side_of(w_, share_.first_tile + next_.tile, chunk, share_.lane);
#pragma unroll
      for (int c = 0; c < kOwn; ++c) {
        if (c >= chunks) break;
        std::byte* const place = slot(next_slot_) + c * kChunkBytes<kCoding>;
        U::fetch(codes + 32 * c, side + c * U::side_step(w_.halves), w_.halves, place + share_.lane * U::kCodeBytes,
                 reinterpret_cast<std::uint32_t*>(place + 32 * U::kCodeBytes) + share_.lane);
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    if (++next_slot_ == share_.division.stages) next_slot_ = 0;
    next_.advance(share_.division);
  }

  /// For all groups of copies but the last `behind`, which is less than kMostStages.
  static __device__ void wait(int behind) {
    switch (behind) {
      case 0: asm volatile("cp.async.wait_group 0;" ::: "memory"); break;
      case 1: asm volatile("cp.async.wait_group 1;" ::: "memory"); break;
      case 2: asm volatile("cp.async.wait_group 2;" ::: "memory"); break;
      default: asm volatile("cp.async.wait_group 3;" ::: "memory");
    }
  }
  static_assert(kMostStages == 4);

  const Coded& w_;
  const Share& share_;
  std::byte* const ring_;  // this warp's, of the first slot
  Cursor next_;
  int slot_ = 0, next_slot_ = 0;
};

}  // namespace molt::cuda
