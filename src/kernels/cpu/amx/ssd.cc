// The state space dual scan by tiles, one head at a time: what isa/ssd.cc computes, with its three products in
// bfloat16.
//
// Of a chunk of Q rows, with S the state before it (isa/ssd.cc has the whole formula):
//   y = diag(2^s) (C S) + D x + M x,   M[i, j] = 2^(s_i - s_j) (C_i . B_j) dt_j for j <= i
//   S <- 2^(s_last) S + B^T (2^(s_last - s) dt x)
// C, B transposed and M are left factors and lie row by row; S, x and the scaled x are right factors and lie in pairs
// of rows, as panels of weights do. C and B transposed are rounded once for all heads of a group; C B^T, which a group
// shares, and every decay are in float32, and so is the state: what is rounded of it is the copy that C meets.
#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/isa/ssd_decays.h"

namespace molt::MOLT_ISA {
namespace {

constexpr int64_t Q = kSsdChunk;
constexpr int64_t kTile = kTileRows;   // rows, and columns of 32 bits
constexpr int64_t kDepth = 2 * kTile;  // k of a tile step
static_assert(kLanes == kTile && Q % kDepth == 0);

inline __m512i rounded_pair(VecF low, VecF high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(high), reinterpret_cast<__m512>(low)));
}

/// 32 columns of a row, one after another.
inline void round_columns(const float* from, uint16_t* to) {
  _mm512_storeu_si512(to, rounded_pair(load(from), load(from + kLanes)));
}

/// 16 columns of two rows, pair by pair.
inline void round_rows(VecF first, VecF second, uint32_t* to) {
  alignas(64) static constexpr uint16_t kInterleaved[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                            21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                            11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kInterleaved);
  _mm512_storeu_si512(to, _mm512_maskz_permutexvar_epi16(~__mmask32{0}, order, rounded_pair(first, second)));
}

/// Matrices in memory, strides in bytes.
struct Factor {
  const void* data;
  int64_t stride;
};
struct Sums {
  float* data;
  int64_t stride;  // in floats
};

/// Whether a product takes the place of what its sums hold, or is added to it.
enum class Into { zeros, sums };

/// R x C tiles: sums (+)= left [R * 16, k] * right [k, C * 16], k in tile steps.
template <int R, int C>
inline void multiply_block(Factor left, Factor right, int64_t steps, Into into, Sums sums) {
  constexpr int kA = 4, kB = 6;
  const auto for_sums = [&](auto body) {
    unrolled<R>([&](auto r) {
      unrolled<C>([&](auto c) {
        body(Constant<r.value * 2 + c.value>{}, sums.data + r.value * kTile * sums.stride + c.value * kTile);
      });
    });
  };
  for_sums([&](auto tile, const float* from) {
    if (into == Into::zeros) {
      clear_tile<tile.value>();
    } else {
      load_tile<tile.value>(from, sums.stride * 4);
    }
  });
  for (int64_t step = 0; step < steps; ++step) {
    const char* a = static_cast<const char*>(left.data) + step * kTileBytes;
    const char* b = static_cast<const char*>(right.data) + step * kTile * right.stride;
    unrolled<R>([&](auto r) { load_tile<kA + r.value>(a + r.value * kTile * left.stride, left.stride); });
    unrolled<C>([&](auto c) {
      load_tile<kB + c.value>(b + c.value * kTileBytes, right.stride);
      unrolled<R>([&](auto r) { multiply_bf16<r.value * 2 + c.value, kA + r.value, kB + c.value>(); });
    });
  }
  for_sums([&](auto tile, float* to) { store_tile<tile.value>(to, sums.stride * 4); });
}

/// R tiles of rows by all columns.
template <int R>
inline void multiply_rows(Factor left, Factor right, int64_t columns, int64_t steps, Into into, Sums sums) {
  for (int64_t c = 0; c < columns; c += 2 * kTile) {
    const Factor part{static_cast<const char*>(right.data) + c * 4, right.stride};
    if (columns - c >= 2 * kTile) {
      multiply_block<R, 2>(left, part, steps, into, {sums.data + c, sums.stride});
    } else {
      multiply_block<R, 1>(left, part, steps, into, {sums.data + c, sums.stride});
    }
  }
}

/// sums [rows, columns] (+)= left * right; rows and columns in whole tiles.
void multiply(Factor left, int64_t rows, Factor right, int64_t columns, int64_t steps, Into into, Sums sums) {
  for (int64_t r = 0; r < rows; r += 2 * kTile) {
    const Factor part{static_cast<const char*>(left.data) + r * left.stride, left.stride};
    const Sums to{sums.data + r * sums.stride, sums.stride};
    if (rows - r >= 2 * kTile) {
      multiply_rows<2>(part, right, columns, steps, into, to);
    } else {
      multiply_rows<1>(part, right, columns, steps, into, to);
    }
  }
}

/// Where ssd_round leaves what a group's heads share.
struct RoundedGroup {
  uint16_t* B_transposed;  // [N, Q]
  uint16_t* C;             // [Q, N]
};

inline RoundedGroup rounded_group(const float* prepared, int64_t states) {
  auto* const begin = reinterpret_cast<uint16_t*>(const_cast<float*>(prepared) + (states + Q) * Q);
  return {begin, begin + states * Q};
}

/// What a head's kernel works on, all of it in its scratch memory.
struct Workspace {
  uint32_t* x;         // [Q / 2, P], pairs of rows
  uint32_t* x_to_end;  // the same, scaled
  uint32_t* state;     // [N / 2, P], pairs of rows
  uint16_t* M;         // [Q, Q]
  float* y;            // [Q, P]

  Workspace(float* scratch, int64_t states, int64_t channels) {
    y = scratch;
    x = reinterpret_cast<uint32_t*>(y + Q * channels);
    x_to_end = x + Q / 2 * channels;
    state = x_to_end + Q / 2 * channels;
    M = reinterpret_cast<uint16_t*>(state + states / 2 * channels);
  }
};

/// x as right factors: scaled for the state and, where y is wanted, as it is. Zeros behind the chunk's rows, up to a
/// whole tile step.
void round_inputs(const SsdHead& head, const Decays& d, int64_t depth, const Workspace& w) {
  for (int64_t i = 0; i < depth; i += 2) {
    const float* const first = head.x + i * head.x_stride;
    const float* const second = first + head.x_stride;
    for (int64_t c = 0; c < head.channels; c += kLanes) {
      const VecF a = i < head.rows ? load(first + c) : VecF{};
      const VecF b = i + 1 < head.rows ? load(second + c) : VecF{};
      const int64_t place = i / 2 * head.channels + c;
      round_rows(a * d.to_end[i], b * d.to_end[i + 1], w.x_to_end + place);
      if (head.y != nullptr) round_rows(a, b, w.x + place);
    }
  }
}

/// Rounds the state for C, if y is wanted, and lets it decay by the chunk.
void decay_state(const SsdHead& head, const Decays& d, const Workspace& w) {
  for (int64_t n = 0; n < head.states; n += 2) {
    float* const first = head.state + n * head.channels;
    float* const second = first + head.channels;
    for (int64_t c = 0; c < head.channels; c += kLanes) {
      const VecF a = load(first + c);
      const VecF b = load(second + c);
      if (head.y != nullptr) round_rows(a, b, w.state + n / 2 * head.channels + c);
      store(first + c, a * d.whole);
      store(second + c, b * d.whole);
    }
  }
}

/// M up to the tile step that holds the diagonal, zeros behind that.
void round_decayed(const Decays& d, const float* gram, int64_t rows, uint16_t* M) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j <= i; j += kDepth) {
      const VecF high = j + kLanes <= i ? decayed(d, gram, i, j + kLanes) : VecF{};
      _mm512_storeu_si512(M + i * Q + j, rounded_pair(decayed(d, gram, i, j), high));
    }
  }
}

/// y = diag(2^s) (C S) + D x, of C S.
void scale_outputs(const SsdHead& head, const Decays& d, float* y) {
  for (int64_t i = 0; i < head.rows; ++i) {
    const float* const x = head.x + i * head.x_stride;
    float* const row = y + i * head.channels;
    for (int64_t c = 0; c < head.channels; c += kLanes) {
      VecF sum = load(row + c) * d.from_start[i];
      if (head.D != nullptr) sum += load(head.D + c) * load(x + c);
      store(row + c, sum);
    }
  }
}

void compute_outputs(const SsdHead& head, const Decays& d, const Workspace& w) {
  const int64_t N = head.states;
  const int64_t P = head.channels;
  const int64_t rows = (head.rows + kTile - 1) / kTile * kTile;
  round_decayed(d, head.prepared + N * Q, head.rows, w.M);
  multiply({rounded_group(head.prepared, N).C, N * 2}, rows, {w.state, P * 4}, P, N / kDepth, Into::zeros, {w.y, P});
  scale_outputs(head, d, w.y);
  // Two tiles of rows at a time: what lies behind their diagonal is left out.
  for (int64_t i = 0; i < rows; i += kDepth) {
    multiply({w.M + i * Q, Q * 2}, rows - i < kDepth ? rows - i : kDepth, {w.x, P * 4}, P, i / kDepth + 1, Into::sums,
             {w.y + i * P, P});
  }
  for (int64_t i = 0; i < head.rows; ++i) {
    for (int64_t c = 0; c < P; c += kLanes) store(head.y + i * head.y_stride + c, load(w.y + i * P + c));
  }
}

}  // namespace

void ssd_round(const SsdGroupChunk& chunk) {
  const RoundedGroup group = rounded_group(chunk.prepared, chunk.states);
  for (int64_t i = 0; i < chunk.states * Q; i += kDepth) round_columns(chunk.prepared + i, group.B_transposed + i);
  if (chunk.C == nullptr) return;
  for (int64_t i = 0; i < Q; ++i) {
    uint16_t* const to = group.C + i * chunk.states;
    for (int64_t n = 0; n < chunk.states; n += kDepth) {
      if (i < chunk.rows) {
        round_columns(chunk.C + i * chunk.C_stride + n, to + n);
      } else {
        _mm512_storeu_si512(to + n, _mm512_setzero_si512());
      }
    }
  }
}

void ssd_chunk_rounded(const SsdHead& head) {
  const int64_t N = head.states;
  const int64_t P = head.channels;
  const int64_t depth = (head.rows + kDepth - 1) / kDepth * kDepth;
  const Workspace w(head.scratch, N, P);
  Decays d;
  compute_decays(head, d);
  round_inputs(head, d, depth, w);
  decay_state(head, d, w);
  const Tiles tiles(kTileRows);
  if (head.y != nullptr) compute_outputs(head, d, w);
  multiply({rounded_group(head.prepared, N).B_transposed, Q * 2}, N, {w.x_to_end, P * 4}, P, depth / kDepth, Into::sums,
           {head.state, P});
}

}  // namespace molt::MOLT_ISA
