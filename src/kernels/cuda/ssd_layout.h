// SsdLayout: x, B and C of a batch as the products of chunks want them, with the sums of their steps, in scratch
// memory.
#pragma once

#include "kernels/cuda/scratch.h"
#include "kernels/cuda/ssd.h"

namespace molt::cuda {

/// A row: x head by head, B and C group by group, each padded with zeros to a multiple of 16 bytes. Element: float or
/// bf16.
template <class Element>
struct SsdLayout {
  Element* data;
  float4* sums;   // [rows, heads]: see steps()
  Element* gram;  // [rows, groups, kChunkRows]: C B' of each row with the rows of its chunk, those before it at least
  int first_row;
  int heads, groups;
  int channels, states;  // padded
  std::int64_t stride;   // elements

  __host__ __device__ Element* row(int t) const { return data + (t - first_row) * stride; }
  __host__ __device__ int x(int h) const { return h * channels; }
  __host__ __device__ int B(int g) const { return heads * channels + g * states; }
  __host__ __device__ int C(int g) const { return heads * channels + (groups + g) * states; }

  __host__ __device__ Element* products(int t, int g) const {
    return gram + (static_cast<std::int64_t>(t - first_row) * groups + g) * kChunkRows;
  }

  /// Of a row and head: the exponent (of 2) by which the chunk's beginning has decayed at the row, in two parts; dt;
  /// and dt times the decay from the row to the chunk's end.
  __device__ float4& steps(int t, int h) const { return sums[static_cast<std::int64_t>(t - first_row) * heads + h]; }
};

/// Whether ssd_panels() can be used for heads of so many states on this device.
bool can_use_panels(const Context& context, int states);

/// The chunks of ssd_chunks() in bfloat16, from rows that are laid out with their sums and products. y: float32, or
/// bfloat16 with rows and heads aligned to 16 bytes.
void ssd_panels(const Context& context, const SequenceTable& table, const Ssd& ssd,
                const SsdLayout<__nv_bfloat16>& layout, Rows<float> y, bool rounded, int least_rows);
void ssd_panels(const Context& context, const SequenceTable& table, const Ssd& ssd,
                const SsdLayout<__nv_bfloat16>& layout, Rows<__nv_bfloat16> y, bool rounded, int least_rows);

/// Of rows that lie so already, the first at `data`, with their sums; room for the gram is left. Nothing is padded.
SsdLayout<__nv_bfloat16> lay_over(Context& context, const SequenceTable& table, const Ssd& ssd, __nv_bfloat16* data);

/// C B' of the chunks of sequences of more than `least_rows` rows.
void multiply_rows(Context& context, const SequenceTable& table, const SsdLayout<__nv_bfloat16>& layout,
                   int least_rows);

/// Lays the rows of the table's sequences out, in chunks from each sequence's beginning; room for the gram is left.
template <class Element>
SsdLayout<Element> lay_out(Context& context, const SequenceTable& table, const Ssd& ssd);

}  // namespace molt::cuda
