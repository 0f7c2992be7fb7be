// Quantized weights as models hold them: which matrices are quantized, and how files store them.
//
// A quantized matrix NAME [N, K] is three tensors of a checkpoint (docs/quantization.md):
//   NAME.codes   u8 [N, K] of 8 bits, or [N, ceil(K / 2)] of 4: column 2j in the lower half of byte j, 2j + 1 in the
//   upper NAME.scales  bf16 [N, G] NAME.zeros   u8 [N, G]
// Their shapes tell the format. Thread-safe: free functions without state.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/quantized_matrix.h"

namespace molt {

/// How a model's matrices are quantized.
struct QuantizationPlan {
  QuantizedFormat blocks;              // the projections of the blocks
  QuantizedFormat embedding = {8, 0};  // embedding and head, which every token's logits and stream hang on

  /// The format of the weight of that name, in any architecture's naming; nothing when it stays floating point, being
  /// no matrix. dt_proj, of which there is little and every step of a state depends on it, takes 8 bits in any case.
  std::optional<QuantizedFormat> format_of(std::string_view name) const;
};

/// The last part of a matrix's name that says what it is: "in_proj" of "backbone.layers.0.mixer.in_proj.weight".
std::string_view kind_of_weight(std::string_view name);

/// Whether `name` is a part of a quantized matrix.
bool is_quantized_part(std::string_view name);

/// The tensors that store `matrix` under `name`, by their names.
std::vector<std::pair<std::string, Tensor>> stored_parts(const std::string& name, const QuantizedMatrix& matrix);

/// A matrix's three tensors, put together again; null where one is missing.
struct StoredParts {
  std::optional<Tensor> codes, scales, zeros;

  /// The matrix [out, in]. Throws Error that says what is wrong with which part; `name` is the matrix's.
  QuantizedMatrix read(const std::string& name, std::int64_t out, std::int64_t in) const;
};

}  // namespace molt
