// The state space dual scan (Dao & Gu 2024, section 6), one head at a time, in chunks of kSsdChunk rows.
//
// With a_t = dt_t m_t A log2(e) and its sums s_i = a_0 + ... + a_i within the chunk, S the state before the chunk:
//   y_i = 2^(s_i) C_i S + sum_{j <= i} 2^(s_i - s_j) (C_i . B_j) dt_j x_j + D x_i
//   S  <- 2^(s_last) S + sum_j B_j (2^(s_last - s_j) dt_j x_j)
// All three sums are products of small matrices, done in register tiles. Every exponent is a difference of sums that is
// never positive; the sums are held as pairs of floats, so that a small difference of large ones keeps its digits.
#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/ssd_decays.h"
#include "kernels/cpu/isa/stored_state.h"
#include "kernels/cpu/isa/tile.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {
namespace {

constexpr int64_t Q = kSsdChunk;

inline bool is_wanted(const SsdHead& head, int64_t t) {
  return head.wanted == nullptr || head.wanted[t] != 0;
}

/// M [rows, Q], M[i, j] = 2^(s_i - s_j) gram[i, j] dt_j for j <= i, and zero for the j > i that i's band of tiles
/// reads.
void decay_gram(const Decays& d, const float* gram, int64_t rows, float* M) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < Q && j < i + kTileRows; j += kLanes) store(M + i * Q + j, decayed(d, gram, i, j));
  }
}

/// Copies x's rows into whole vectors: plain [rows, padded] if y is wanted, and scaled by to_end.
void pack_inputs(const SsdHead& head, const Decays& d, float* x, float* x_to_end) {
  const int64_t padded = ssd_padded(head.channels);
  for (int64_t i = 0; i < head.rows; ++i) {
    const float* from = head.x + i * head.x_stride;
    const float scale = d.to_end[i];
    for (int64_t c = 0; c < padded; c += kLanes) {
      const int64_t left = head.channels - c;
      const VecF v = left >= kLanes ? load(from + c) : load_first(from + c, left > 0 ? static_cast<int>(left) : 0);
      if (head.y != nullptr) store(x + i * padded + c, v);
      store(x_to_end + i * padded + c, v * scale);
    }
  }
}

/// What a chunk of a head works on; rows of ssd_padded(P) floats, zero beyond P.
struct Workspace {
  float* state;  // [N, padded]: the caller's own memory if P needs no padding
  float* D;      // [1, padded]
  float* x;      // [Q, padded]
  float* x_to_end;
  float* M;  // [Q, Q]
};

/// The rows of y of one chunk.
void chunk_outputs(const SsdHead& head, const Decays& d, const Workspace& w) {
  const int64_t padded = ssd_padded(head.channels);
  for_tile_columns(padded, [&](int64_t c, auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    for_bands(head.rows, [&](int64_t i, auto band) {
      constexpr int kRows = decltype(band)::value;
      Tile<kRows, kVectors> tile;
      tile.clear();
      tile.multiply_add(head.C + i * head.C_stride, head.C_stride, w.state + c, padded, head.states);
      MOLT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const VecF decay = broadcast(d.from_start[i + r]);
        MOLT_UNROLL
        for (int v = 0; v < kVectors; ++v) tile.sum[r][v] *= decay;
      }
      tile.multiply_add(w.M + i * Q, Q, w.x + c, padded, i + kRows);
      MOLT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        float* y = head.y + (i + r) * head.y_stride + c;
        MOLT_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const VecF x = load(w.x + (i + r) * padded + c + v * kLanes);
          const VecF out = tile.sum[r][v] + load(w.D + c + v * kLanes) * x;
          const int64_t left = head.channels - (c + v * kLanes);
          if (left >= kLanes) {
            store(y + v * kLanes, out);
          } else if (left > 0) {
            store_first(y + v * kLanes, out, static_cast<int>(left));
          }
        }
      }
    });
  });
}

/// The state after one chunk.
void chunk_state(const SsdHead& head, const Decays& d, const Workspace& w) {
  const float* B_transposed = head.prepared;
  const int64_t padded = ssd_padded(head.channels);
  for_tile_columns(padded, [&](int64_t c, auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    for_bands(head.states, [&](int64_t n, auto band) {
      constexpr int kRows = decltype(band)::value;
      float* state = w.state + n * padded + c;
      Tile<kRows, kVectors> tile;
      MOLT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        MOLT_UNROLL
        for (int v = 0; v < kVectors; ++v) tile.sum[r][v] = load(state + r * padded + v * kLanes) * d.whole;
      }
      tile.multiply_add(B_transposed + n * Q, Q, w.x_to_end + c, padded, head.rows);
      MOLT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        MOLT_UNROLL
        for (int v = 0; v < kVectors; ++v) store(state + r * padded + v * kLanes, tile.sum[r][v]);
      }
    });
  });
}

/// Copies [rows, cols] of one stride to another, zeroing what the destination's rows have more.
void copy_rows(const float* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) to[r * to_stride + c] = from[r * from_stride + c];
    for (int64_t c = cols; c < to_stride; ++c) to[r * to_stride + c] = 0;
  }
}

/// Rows of a state to fetch ahead; what follows a head's is the next one's.
constexpr int64_t kRowsAhead = 32;

/// One row of the recurrence for up to kWidth vectors of channels from channel c on. The last may be partial: `lanes`.
template <int kWidth, class State, class Lanes>
inline void step_columns(const SsdHead& head, const State& states, int64_t t, float decay, int64_t c, Lanes lanes) {
  const bool wanted = is_wanted(head, t);
  const float* from = head.x + t * head.x_stride + c;
  const float* B = head.B + t * head.B_stride;
  const float* C = head.C + t * head.C_stride;
  const float dt = head.dt[t * head.dt_stride];
  VecF x[kWidth], sum[kWidth];
  MOLT_UNROLL
  for (int v = 0; v < kWidth; ++v) {
    x[v] = at(from + v * kLanes, lanes);
    sum[v] = head.D == nullptr ? VecF{} : at(head.D + c + v * kLanes, lanes) * x[v];
    x[v] *= dt;
  }
  uint32_t draws[kWidth * kLanes];
  const State columns = states.columns(c, kWidth * kLanes, draws);
  for (int64_t n = 0; n < head.states; ++n) {
    const State state = columns.row(n, head.channels);
    for (int v = 0; v < kWidth; ++v) state.fetch(kRowsAhead * head.channels + v * kLanes);
    MOLT_UNROLL
    for (int v = 0; v < kWidth; ++v) {
      const VecF S = state.get(v * kLanes, lanes) * decay + x[v] * B[n];
      state.set(v * kLanes, S, lanes);
      if (wanted) sum[v] += S * C[n];
    }
  }
  if (!wanted) return;
  MOLT_UNROLL
  for (int v = 0; v < kWidth; ++v) put(head.y + t * head.y_stride + c + v * kLanes, sum[v], lanes);
}

/// 2^x for one x, as the vectors have it.
inline float decay_of(float exponent) {
  return exp2_decay(broadcast(exponent))[0];
}

/// Row t of the recurrence.
template <class State>
inline void step(const SsdHead& head, const State& state, int64_t t) {
  if (!is_wanted(head, t) && head.dt[t * head.dt_stride] == 0) return;
  const float m = head.m == nullptr ? 1.0F : head.m[t];
  const float decay = decay_of(head.dt[t * head.dt_stride] * m * head.A * kLog2E);
  int64_t c = 0;
  for (; c + 4 * kLanes <= head.channels; c += 4 * kLanes) step_columns<4>(head, state, t, decay, c, Whole{});
  for (; c + kLanes <= head.channels; c += kLanes) step_columns<1>(head, state, t, decay, c, Whole{});
  if (c < head.channels) step_columns<1>(head, state, t, decay, c, static_cast<int>(head.channels - c));
}

/// B [rows, states] to [states, Q], zero beyond `rows`. A few rows at a time: a wide matrix's rows may all fall into
/// the same sets of the cache.
void transpose(const SsdGroupChunk& chunk, float* to) {
  constexpr int64_t kRows = 16;
  for (int64_t j = 0; j < Q; j += kRows) {
    const int64_t rows = chunk.rows - j < kRows ? chunk.rows - j : kRows;
    for (int64_t n = 0; n < chunk.states; ++n) {
      for (int64_t r = 0; r < kRows; ++r) to[n * Q + j + r] = r < rows ? chunk.B[(j + r) * chunk.B_stride + n] : 0;
    }
  }
}

}  // namespace

void ssd_prepare(const SsdGroupChunk& chunk) {
  float* B_transposed = chunk.prepared;
  float* gram = chunk.prepared + chunk.states * Q;
  transpose(chunk, B_transposed);
  if (chunk.C == nullptr) return;
  // Only columns up to the diagonal are ever read; the rest of their vectors comes along.
  for_bands(chunk.rows, [&](int64_t i, auto band) {
    constexpr int kRows = decltype(band)::value;
    const int64_t cols = (i + kRows + kLanes - 1) / kLanes * kLanes;
    for_tile_columns(cols < Q ? cols : Q, [&](int64_t c, auto vectors) {
      constexpr int kVectors = decltype(vectors)::value;
      Tile<kRows, kVectors> tile;
      tile.clear();
      tile.multiply_add(chunk.C + i * chunk.C_stride, chunk.C_stride, B_transposed + c, Q, chunk.states);
      MOLT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        MOLT_UNROLL
        for (int v = 0; v < kVectors; ++v) store(gram + (i + r) * Q + c + v * kLanes, tile.sum[r][v]);
      }
    });
  });
}

void ssd_chunk(const SsdHead& head) {
  const int64_t padded = ssd_padded(head.channels);
  const bool in_place = padded == head.channels;
  Workspace w;
  w.D = head.scratch;
  w.x = w.D + padded;
  w.x_to_end = w.x + Q * padded;
  w.M = w.x_to_end + Q * padded;
  w.state = in_place ? head.state : w.M + Q * Q;
  if (!in_place) copy_rows(head.state, head.channels, w.state, padded, head.states, head.channels);
  copy_rows(head.D, 0, w.D, padded, 1, head.D == nullptr ? 0 : head.channels);
  Decays d;
  compute_decays(head, d);
  pack_inputs(head, d, w.x, w.x_to_end);
  if (head.y != nullptr) {
    decay_gram(d, head.prepared + head.states * Q, head.rows, w.M);
    chunk_outputs(head, d, w);
  }
  chunk_state(head, d, w);
  if (!in_place) copy_rows(w.state, padded, head.state, head.channels, head.states, head.channels);
}

void ssd_steps(const SsdHead& head) {
  for (int64_t t = 0; t < head.rows; ++t) {
    if (head.rounded.data != nullptr) {
      step(head, RoundedElements(head.rounded), t);
    } else {
      step(head, FloatElements{head.state}, t);
    }
  }
}

}  // namespace molt::MOLT_ISA
