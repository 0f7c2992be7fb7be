// The element types of GGUF tensors: ggml's floats and block-quantized formats (github.com/ggml-org/ggml, ggml.h's
// enum ggml_type and ggml-common.h's block layouts), and their way to float32.
//
// A quantized row is a sequence of blocks of 32 or 256 elements with their scales inside. Dequantizing is exact in the
// sense that each element is what the format's definition gives in float32, operation by operation.
//
// Thread-safety: free functions without state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tensor/dtype.h"

namespace molt {

/// Turns `blocks` blocks at `in` into floats at `out`.
using Dequantize = void (*)(const std::byte* in, std::int64_t blocks, float* out);

struct GgmlType {
  std::uint32_t id;  // as files have it
  std::string_view name;
  std::int64_t block_elements;  // 1 for types that are not quantized
  std::int64_t block_bytes;
  std::optional<DType> dtype;  // of types that are not quantized
  Dequantize dequantize;       // of those that are
};

/// The type with that number, or null for one that molt does not read.
const GgmlType* find_ggml_type(std::uint32_t id);

/// What a number stands for that find_ggml_type() does not know: "iq2_xxs", or "number 99". For messages.
std::string describe_ggml_type(std::uint32_t id);

/// The names of all types that molt reads, with commas between them.
std::string known_ggml_types();

/// Dequantizes whole blocks of `type`, on all threads. `in` holds blocks of `type.block_bytes`, `out` has room for all
/// their elements.
void dequantize(const GgmlType& type, std::span<const std::byte> in, float* out);

}  // namespace molt
