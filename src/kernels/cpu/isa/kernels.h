// Kernels: the table of the functions that are compiled once per instruction set, on plain pointers.
//
// Who calls them (kernels/cpu/*.cc) knows shapes and threads; who implements them (isa/*.cc) knows neither, only rows
// of floats. select() gives the table for this machine. Strides are in elements; pointers need no alignment.
#pragma once

#include <stdint.h>

namespace molt {

/// Tokens of a block of keys and values (kernels/kv_cache.h, whose kKvBlock this is; that header is not for here).
inline constexpr int64_t kAttentionBlock = 64;

/// P rounded up so that rows of that many floats are whole vectors in every instruction set.
inline constexpr int64_t padded_head(int64_t channels) {
  return (channels + 15) / 16 * 16;
}

/// Attention over part of the tokens: of each row the largest score, and relative to it the sum of the weights and of
/// the weighted values.
struct AttentionSums {
  float* largest;  // [rows], -infinity at first
  float* weights;  // [rows], 0 at first
  float* values;   // [rows, padded_head(head_dim)], 0 at first; anything beyond head_dim
};

/// Queries that read the same head of keys and values, and one block of these.
struct AttentionTile {
  const float* queries;  // [rows, head_dim], scaled
  int64_t rows;
  int64_t head_dim;
  const float* keys;    // [head_dim, 64]
  const float* values;  // [64, head_dim], and 16 floats more that may be read
  const int32_t* seen;  // [rows], how many of the block's tokens each row sees, 0 to 64
  AttentionSums sums;   // taken along
};

/// Channels [0, channels) of one sequence for causal_conv: as Backend::causal_conv, pointers at the first channel.
struct ConvSequence {
  const float* x;
  int64_t x_stride;
  const float* weight;  // [taps, channels]
  int64_t weight_stride;
  int64_t taps;
  const float* bias;  // [channels], or null
  float* state;       // [taps - 1, channels]
  int64_t state_stride;
  float* y;
  int64_t y_stride;
  int64_t rows;
  int64_t channels;
};

/// Part of a state in bfloat16, rounded at random (kernels/random_rounding.h).
struct RoundedElementsAt {
  uint16_t* data;  // null: the state is in float32
  uint32_t key;
  uint32_t column;  // of *data
  uint32_t row;
};

/// Channels [0, channels) of one sequence for selective_scan: as Backend::selective_scan, pointers at the first
/// channel.
struct ScanSequence {
  const float* x;
  int64_t x_stride;
  const float* dt;
  int64_t dt_stride;
  const float* A;  // [states, channels]
  int64_t A_stride;
  const float* B;  // [rows, states]
  int64_t B_stride;
  const float* C;  // [rows, states]
  int64_t C_stride;
  const float* D;         // [channels], or null
  const float* m;         // [rows], or null
  const uint8_t* wanted;  // [rows], or null: rows with 0 write the state only
  float* state;           // [states, channels]
  int64_t state_stride;
  RoundedElementsAt rounded;  // in place of `state`, for a single row
  float* y;
  int64_t y_stride;
  int64_t rows;
  int64_t channels;
  int64_t states;
};

/// Rows of a chunk of ssd, the unit that is computed as matrix products.
inline constexpr int64_t kSsdChunk = 64;

/// P rounded up so that rows of that many floats are whole vectors in every instruction set.
inline constexpr int64_t ssd_padded(int64_t channels) {
  return (channels + 15) / 16 * 16;
}

/// Floats that one chunk of one group needs between ssd_prepare and ssd_chunk: B transposed [N, kSsdChunk], then
/// C B^T [kSsdChunk, kSsdChunk], then, for ssd_chunk_rounded, both B transposed and C [kSsdChunk, N] in bfloat16.
inline constexpr int64_t ssd_prepared_size(int64_t states) {
  return (2 * states + kSsdChunk) * kSsdChunk;
}

/// Floats of scratch that ssd_chunk needs.
inline constexpr int64_t ssd_scratch_size(int64_t states, int64_t channels) {
  return (2 * kSsdChunk + states + 1) * ssd_padded(channels) + kSsdChunk * kSsdChunk;
}

/// What the heads of one group share in one chunk of `rows` rows.
struct SsdGroupChunk {
  const float* B;  // [rows, states]
  int64_t B_stride;
  const float* C;  // [rows, states], or null: no row's y is wanted, only B is prepared
  int64_t C_stride;
  int64_t rows;  // 1 to kSsdChunk
  int64_t states;
  float* prepared;  // [ssd_prepared_size(states)], left filled
};

/// Rows of one head of one sequence for ssd: as Backend::ssd, pointers at the head's first column.
struct SsdHead {
  const float* x;  // [rows, channels]
  int64_t x_stride;
  const float* dt;  // one value a row
  int64_t dt_stride;
  float A;
  const float* B;  // [rows, states]
  int64_t B_stride;
  const float* C;  // [rows, states]
  int64_t C_stride;
  const float* D;             // [channels], or null
  const float* m;             // [rows], or null
  const uint8_t* wanted;      // [rows], or null: rows with 0 write the state only; ssd_chunk computes all rows or none
  float* state;               // [states, channels]
  RoundedElementsAt rounded;  // in place of `state`, for ssd_steps and a single row
  float* y;                   // [rows, channels], or null: no row's is wanted
  int64_t y_stride;
  int64_t rows;
  int64_t channels;
  int64_t states;
  // Only ssd_chunk reads these.
  const float* prepared;  // what ssd_prepare left for this chunk and the head's group
  float* scratch;         // [ssd_scratch_size(states, channels)]
};

/// Channels [0, channels) of one sequence for selective_scan_contribution, pointers at the first channel.
struct ScanWrites {
  const float* x;
  int64_t x_stride;
  const float* dt;
  int64_t dt_stride;
  const float* A;  // [states, channels]
  int64_t A_stride;
  const float* B;  // [rows, states]
  int64_t B_stride;
  const float* m;  // [rows], or null
  int64_t rows;
  int64_t channels;
  int64_t states;
  float* sizes;  // [rows, channels], left filled
};

/// Heads [0, heads) of one sequence for ssd_contribution, pointers at the first head.
struct SsdWrites {
  const float* x;  // [rows, heads * channels]
  int64_t x_stride;
  const float* dt;  // [rows, heads]
  int64_t dt_stride;
  const float* A;        // [heads]
  const float* B_norms;  // [rows, heads]: |B| of each head's group
  int64_t B_norms_stride;
  const float* m;  // [rows], or null
  int64_t rows;
  int64_t heads;
  int64_t channels;
  float* sizes;  // [rows, heads], left filled
};

/// Columns that column_shares takes at most.
inline constexpr int64_t kShareColumns = 64;

/// A panel holds the weights of kPanelOutputs outputs, step after step of kPanelStepBytes: a step is one k of all its
/// outputs in float32, or a pair of k's of each output in bfloat16 (packed_matrix.h has the whole layout).
inline constexpr int kPanelOutputs = 64;
inline constexpr int kPanelStepBytes = 256;

/// y [rows, outputs] = x [rows, K] * panel^T + bias. Strides in elements.
struct PanelProduct {
  const void* x;  // float32, or for bfloat16 weights what round_row() wrote
  int64_t x_stride;
  int64_t rows;
  const void* panel;  // aligned to 64 bytes
  const void* next;   // the panel that this thread will multiply by next, or null: is fetched meanwhile
  int64_t steps;
  int outputs;        // of this panel that exist, 1 to kPanelOutputs
  const float* bias;  // [outputs], or null
  float* y;
  int64_t y_stride;
};

/// A panel of quantized weights begins each group of columns with its 64 scales (bfloat16) and its 64 zero points
/// (bytes); then come the group's steps: 4 k of all outputs in 8 bits, 8 k in 4 bits (quantized_panels.h has the whole
/// layout).
inline constexpr int kGroupHeadBytes = 192;

/// Rows of x meet quantized weights as integers of 8 bits, in blocks of columns. A row that round_blocks() has written
/// is its blocks one after another, each a head and its codes, in whichever integers this instruction set multiplies
/// by.
struct BlockHead {
  float scale;           // of the codes: the block's largest magnitude / 127
  int32_t negative_sum;  // minus the sum of the codes
};

/// y [rows, outputs] = x [rows, K] * panel^T + bias, the panel's weights being quantized.
struct QuantizedProduct {
  const void* x;     // what round_blocks() wrote
  int64_t x_stride;  // bytes a row
  int64_t rows;
  const void* panel;  // aligned to 64 bytes
  const void* next;   // the panel that this thread will multiply by next, or null: is fetched meanwhile
  int64_t groups;
  int64_t group_blocks;  // blocks of x a group
  int block;             // columns a block: 64 or 32
  int outputs;           // of this panel that exist, 1 to kPanelOutputs
  const float* bias;     // [outputs], or null
  float* y;
  int64_t y_stride;
};

/// A panel of weights of which two of every four columns are there (pair_panels.h has the whole layout) comes in blocks
/// of 32 columns, eight groups of four. Of x each group comes as its six pairs of columns, rounded to bfloat16, two to
/// 32 bits, and two zeros.
inline constexpr int kPairBlockColumns = 32;
inline constexpr int kPairBlockGroups = 8;
inline constexpr int kPairsAGroup = 8;

/// y [rows, outputs] = x [rows, K] * panel^T + bias, the panel's weights being two of every four.
struct PairProduct {
  const void* x;     // what pair_columns() wrote
  int64_t x_stride;  // numbers of 32 bits
  int64_t rows;
  const void* panel;  // aligned to 64 bytes
  int64_t blocks;
  int outputs;        // of this panel that exist, 1 to kPanelOutputs
  const float* bias;  // [outputs], or null
  float* y;
  int64_t y_stride;
};

struct Kernels {
  const char* name;  // "avx512", "avx2", "portable", ...

  // Functions of rows of n values (norms.cc, activations.cc, convert.cc); as the ops of the same names.
  void (*rms_norm)(const float* x, const float* weight, float eps, float* y, int64_t n);
  void (*add_rms_norm)(float* residual, const float* h, const float* weight, float eps, float* y, int64_t n);
  /// One group; with norm_before_gate false y must not be z.
  void (*gated_rms_norm)(const float* x, const float* z, const float* weight, float eps, bool norm_before_gate,
                         float* y, int64_t n);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, float* y, int64_t n);
  void (*exp)(const float* x, float* y, int64_t n);
  /// 2^x as the scans take their decays, x <= 0.
  void (*exp2_decay)(const float* x, float* y, int64_t n);
  void (*silu_gate)(const float* x, const float* z, float* y, int64_t n);
  void (*softplus)(const float* x, const float* bias, float low, float high, float* y, int64_t n);
  // Sums over a row of x, max(0, x), |x| and x^2 (sums.cc); a NaN makes them NaN.
  float (*sum)(const float* x, int64_t n);
  float (*sum_positive)(const float* x, int64_t n);
  float (*sum_magnitudes)(const float* x, int64_t n);
  float (*sum_squares)(const float* x, int64_t n);
  /// Of (x_factor * x) * (y_factor * y).
  float (*sum_products)(const float* x, float x_factor, const float* y, float y_factor, int64_t n);

  // Rows that are compared (matching.cc).
  /// round_row() of factor * x.
  void (*round_scaled_row)(const float* x, float factor, int64_t n, int64_t padded, void* rounded);
  /// A panel of bfloat16, `steps` steps, a multiple of 16: factors[i] * rows[i] [n], rounded, for i < count <=
  /// kPanelOutputs, and zeros beyond n and for other outputs.
  void (*pack_scaled_rows)(const float* const* rows, const float* factors, int count, int64_t n, int64_t steps,
                           void* panel);
  /// greatest [rows] of each row of x [rows, n]; passes over NaN; -infinity where there is none.
  void (*greatest_of_rows)(const float* x, int64_t stride, int64_t rows, int64_t n, float* greatest);
  /// Bit i: whether x[i] >= least, for x [n], n <= 64.
  uint64_t (*at_least)(const float* x, int64_t n, float least);

  /// y = the n 16-bit floats at x, which need no alignment.
  void (*f16_to_f32)(const void* x, float* y, int64_t n);
  void (*bf16_to_f32)(const void* x, float* y, int64_t n);
  /// n columns of a row of a state = the floats at x, rounded at random.
  void (*round_state)(const float* x, const RoundedElementsAt& to, int64_t n);

  // Ops along a sequence (causal_conv.cc, selective_scan.cc, ssd.cc).
  void (*causal_conv)(const ConvSequence& sequence);
  void (*selective_scan)(const ScanSequence& sequence);
  void (*ssd_prepare)(const SsdGroupChunk& chunk);
  /// At most kSsdChunk rows of a head, as matrix products; with y null the state alone.
  void (*ssd_chunk)(const SsdHead& head);
  /// The same with products in bfloat16: of x, B, C and the state's copy that C meets; decays, sums and the state
  /// itself stay in float32. For states a multiple of 32 and channels of 16; ssd_round comes between it and
  /// ssd_prepare. Null where that is not faster.
  void (*ssd_round)(const SsdGroupChunk& chunk);
  void (*ssd_chunk_rounded)(const SsdHead& head);
  /// Any number of rows of a head, one after another as the recurrence: the faster way for a few.
  void (*ssd_steps)(const SsdHead& head);

  // Rows' contributions to the last state (contribution.cc): sizes of what rows wrote, and what they add up to.
  void (*selective_scan_writes)(const ScanWrites& writes);
  void (*ssd_writes)(const SsdWrites& writes);
  /// shares [rows] = sum over columns of each element's share of its column's sum, none where that is 0. sizes [rows,
  /// cols], cols <= kShareColumns.
  void (*column_shares)(const float* sizes, int64_t rows, int64_t cols, float* shares);

  // Attention (attention.cc).
  void (*attention_block)(const AttentionTile& tile);
  /// Sums over some tokens, added to those over others.
  void (*attention_merge)(const AttentionSums& from, int64_t rows, int64_t head_dim, const AttentionSums& into);

  // Rows of x that pass over a panel together, at most, and bytes of them: many, so that weights are seldom read again,
  // as long as they stay in a cache meanwhile.
  int64_t piece_rows;
  int64_t piece_bytes;

  // Matrix products (panel_gemm.cc).
  int rounded_bytes;  // of an element that round_row() writes
  /// Rounds x [n] to bfloat16 (to nearest, ties to even) and pads it with zeros to `padded` elements, in whichever
  /// format this instruction set multiplies by: bfloat16, or float32 again.
  void (*round_row)(const float* x, int64_t n, int64_t padded, void* rounded);
  void (*multiply_panel_f32)(const PanelProduct& product);
  void (*multiply_panel_bf16)(const PanelProduct& product);

  // Products with quantized weights (quantized_gemm.cc).
  int code_bytes;  // of a code that round_blocks() writes
  /// Rounds x [n], block by block, to codes -127 .. 127, zeros beyond n. Of a block that is not finite the scale is
  /// NaN.
  void (*round_blocks)(const float* x, int64_t n, int block, int64_t blocks, void* rounded);
  /// Weights of 8 bits: one group, its scales applied last.
  void (*multiply_panel_int8)(const QuantizedProduct& product);
  /// Weights of 4 bits, in any number of groups.
  void (*multiply_panel_int4)(const QuantizedProduct& product);

  // Products with two weights of every four (pair_gemm.cc).
  /// The pairs of x [n], zeros beyond n, in `blocks` blocks: blocks * kPairBlockGroups * kPairsAGroup numbers.
  void (*pair_columns)(const float* x, int64_t n, int64_t blocks, void* pairs);
  void (*multiply_panel_pairs)(const PairProduct& product);
};

/// The best table that this machine can run, or the one that use_isa() named.
const Kernels& select_kernels();

}  // namespace molt
