// Attention of a tile of queries, block of keys by block, with an online softmax (Milakov & Gimelshein 2018; Dao et al.
// 2022): scores and sums of values are products of small matrices, done in register tiles.
#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/tile.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {
namespace {

/// A score that weighs nothing.
constexpr float kUnseen = -__builtin_inff();

float largest_of(VecF v) {
  float lanes[kLanes];
  store(lanes, v);
  float largest = lanes[0];
  for (int i = 1; i < kLanes; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  return largest;
}

/// e^x of a number, as the vectors have it.
float exp_of(float x) {
  return exp(Block<1>::fill(x)).v[0][0];
}

/// What sums relative to `before` are multiplied by to be relative to `after` >= before. Nothing was added before there
/// was a finite largest score.
float rescale(float before, float after) {
  return before == kUnseen ? 0.0F : exp_of(before - after);
}

/// scores [kRows, kAttentionBlock] = queries * keys.
template <int kRows>
void multiply_keys(const float* queries, int64_t head_dim, const float* keys, float* scores) {
  for_tile_columns(kAttentionBlock, [&](int64_t c, auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    Tile<kRows, kVectors> tile;
    tile.clear();
    tile.multiply_add(queries, head_dim, keys + c, kAttentionBlock, head_dim);
    MOLT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MOLT_UNROLL
      for (int v = 0; v < kVectors; ++v) store(scores + r * kAttentionBlock + c + v * kLanes, tile.sum[r][v]);
    }
  });
}

/// Turns a row of scores, of which the first `seen` count, into weights relative to the largest so far, and takes the
/// row's sums along. Returns what the row's weighted values are to be multiplied by.
float weigh(float* scores, int64_t seen, float& largest, float& sum) {
  const VecI lane = lane_numbers();
  VecF most = broadcast(kUnseen);
  for (int64_t j = 0; j < kAttentionBlock; j += kLanes) {
    const VecI counts = lane < static_cast<int32_t>(seen - j);
    const VecF score = counts ? load(scores + j) : broadcast(kUnseen);
    store(scores + j, score);
    most = max(score, most);
  }
  const float before = largest;
  const float here = largest_of(most);
  if (here > largest) largest = here;
  // Relative to zero as long as nothing counts: the difference of two infinities is no number.
  const float relative_to = largest == kUnseen ? 0.0F : largest;
  constexpr int kVectors = kBlock;
  VecF total{};
  for (int64_t j = 0; j < kAttentionBlock; j += kVectors * kLanes) {
    const auto weights = exp(block_at<kVectors>(scores + j, Whole{}) - relative_to);
    put(scores + j, weights, Whole{});
    MOLT_UNROLL
    for (int v = 0; v < kVectors; ++v) total += weights.v[v];
  }
  const float factor = rescale(before, relative_to);
  sum = sum * factor + sum_of(total);
  return factor;
}

/// values_sum [kRows, padded] = values_sum * factors + weights * values, over the first `count` tokens.
template <int kRows>
void add_values(const AttentionTile& tile, int64_t row, const float* weights, const float* factors, int64_t count) {
  const int64_t padded = padded_head(tile.head_dim);
  float* sums = tile.sums.values + row * padded;
  for_tile_columns(padded, [&](int64_t c, auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    Tile<kRows, kVectors> sum;
    MOLT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MOLT_UNROLL
      for (int v = 0; v < kVectors; ++v) sum.sum[r][v] = load(sums + r * padded + c + v * kLanes) * factors[r];
    }
    sum.multiply_add(weights, kAttentionBlock, tile.values + c, tile.head_dim, count);
    MOLT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MOLT_UNROLL
      for (int v = 0; v < kVectors; ++v) store(sums + r * padded + c + v * kLanes, sum.sum[r][v]);
    }
  });
}

}  // namespace

void attention_block(const AttentionTile& tile) {
  float weights[kTileRows * kAttentionBlock];
  float factors[kTileRows];
  for_bands(tile.rows, [&](int64_t row, auto band) {
    constexpr int kRows = decltype(band)::value;
    int64_t most = 0;
    for (int r = 0; r < kRows; ++r) most = tile.seen[row + r] > most ? tile.seen[row + r] : most;
    if (most == 0) return;
    multiply_keys<kRows>(tile.queries + row * tile.head_dim, tile.head_dim, tile.keys, weights);
    for (int r = 0; r < kRows; ++r) {
      factors[r] = weigh(weights + r * kAttentionBlock, tile.seen[row + r], tile.sums.largest[row + r],
                         tile.sums.weights[row + r]);
    }
    add_values<kRows>(tile, row, weights, factors, most);
  });
}

void attention_merge(const AttentionSums& from, int64_t rows, int64_t head_dim, const AttentionSums& into) {
  const int64_t padded = padded_head(head_dim);
  for (int64_t r = 0; r < rows; ++r) {
    const float largest = from.largest[r] > into.largest[r] ? from.largest[r] : into.largest[r];
    const float from_factor = rescale(from.largest[r], largest);
    const float into_factor = rescale(into.largest[r], largest);
    into.largest[r] = largest;
    into.weights[r] = into.weights[r] * into_factor + from.weights[r] * from_factor;
    for (int64_t c = 0; c < padded; c += kLanes) {
      float* to = into.values + r * padded + c;
      store(to, load(to) * into_factor + load(from.values + r * padded + c) * from_factor);
    }
  }
}

}  // namespace molt::MOLT_ISA
