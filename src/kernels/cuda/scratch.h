// How much scratch memory ops take beside their arguments: for the ops themselves, and for who wants to know before.
#pragma once

#include <cstdint>

#include "kernels/shapes.h"
#include "tensor/dtype.h"

namespace molt::cuda {

/// Inputs of a packed row: a multiple of 16 bytes.
inline std::int64_t padded_inputs(std::int64_t in, DType stored) {
  const std::int64_t unit = 16 / size_of(stored);
  return (in + unit - 1) / unit * unit;
}

/// Of a product whose input is rounded, or padded, before.
inline std::int64_t product_scratch(std::int64_t rows, std::int64_t padded, DType stored) {
  return rows * padded * size_of(stored);
}

/// Of outputs of coded weights that are widened at a time.
constexpr std::int64_t kMostWidenedBytes = std::int64_t{64} << 20;

inline std::int64_t widened_outputs(std::int64_t in) {
  const std::int64_t most = kMostWidenedBytes / (padded_inputs(in, DType::bf16) * size_of(DType::bf16));
  return most < 128 ? 128 : most / 128 * 128;
}

/// Of a product of many rows with `out` outputs of coded weights, beside its input's.
inline std::int64_t widened_scratch(std::int64_t out, std::int64_t in) {
  const std::int64_t most = widened_outputs(in);
  return (out < most ? out : most) * padded_inputs(in, DType::bf16) * size_of(DType::bf16);
}

constexpr std::int64_t kScratchAlignment = 256;

inline std::int64_t aligned_scratch(std::int64_t bytes) {
  return (bytes + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
}

/// Whether a matrix that is packed in `stored` holds one in `dtype` exactly.
inline bool holds_exactly(DType stored, DType dtype) {
  return stored == dtype || (stored == DType::f32 && (dtype == DType::bf16 || dtype == DType::f16));
}

constexpr int kChunkRows = 64;

/// Elements of a row that the dual scan lays out, heads and groups padded to 16 bytes, with those of the row's gram.
inline std::int64_t ssd_row_elements(const shapes::SsdShape& shape, DType precision) {
  return shape.heads * padded_inputs(shape.channels, precision) +
         2 * shape.groups * padded_inputs(shape.states, precision) + shape.groups * kChunkRows;
}

/// Of the dual scan in chunks, of rows in bfloat16 that are laid out.
inline std::int64_t ssd_sums_scratch(std::int64_t rows, std::int64_t heads, std::int64_t groups) {
  return rows * (16 * heads + groups * kChunkRows * 2);
}

/// Of the dual scan in chunks.
inline std::int64_t ssd_scratch(std::int64_t rows, const shapes::SsdShape& shape, DType precision) {
  return rows * (16 * shape.heads + ssd_row_elements(shape, precision) * size_of(precision));
}

}  // namespace molt::cuda
