#include "model/quantized_weights.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/fail.h"

namespace molt {
namespace {

constexpr std::array<std::string_view, 3> kParts = {".codes", ".scales", ".zeros"};
constexpr std::array<std::int64_t, 3> kGroups = {32, 64, 128};

/// Two codes a byte, [N, ceil(K / 2)].
Tensor pack_codes(const QuantizedMatrix& matrix) {
  const std::int64_t cols = matrix.in_features();
  const std::int64_t bytes = (cols + 1) / 2;
  Tensor packed = Tensor::zeros(DType::u8, {matrix.out_features(), bytes});
  const auto* codes = matrix.codes.as<std::uint8_t>();
  auto* to = packed.as<std::uint8_t>();
  for (std::int64_t n = 0; n < matrix.out_features(); ++n) {
    for (std::int64_t k = 0; k < cols; ++k) {
      to[n * bytes + k / 2] |= static_cast<std::uint8_t>(codes[n * cols + k] << (k % 2 == 0 ? 0 : 4));
    }
  }
  return packed;
}

/// The inverse, [N, cols].
Tensor unpack_codes(const Tensor& packed, std::int64_t cols) {
  const std::int64_t rows = packed.shape()[0];
  const std::int64_t bytes = packed.shape()[1];
  Tensor codes = Tensor::uninitialized(DType::u8, {rows, cols});
  const auto* from = packed.as<std::uint8_t>();
  for (std::int64_t n = 0; n < rows; ++n) {
    auto* row = codes.as<std::uint8_t>() + n * cols;
    for (std::int64_t k = 0; k < cols; ++k) {
      row[k] = static_cast<std::uint8_t>(from[n * bytes + k / 2] >> (k % 2 == 0 ? 0 : 4) & 15);
    }
  }
  return codes;
}

const Tensor& require(const std::optional<Tensor>& part, const std::string& name, DType dtype) {
  if (!part) fail("missing: {}", name);
  if (part->dtype() != dtype) {
    fail("wrong type: {} is {}, {} is needed", name, name_of(part->dtype()), name_of(dtype));
  }
  return *part;
}

}  // namespace

std::string_view kind_of_weight(std::string_view name) {
  constexpr std::string_view kWeight = ".weight";
  if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
  return name.substr(name.rfind('.') + 1);  // npos + 1 is 0
}

std::optional<QuantizedFormat> QuantizationPlan::format_of(std::string_view name) const {
  if (!name.ends_with(".weight")) return std::nullopt;
  const std::string_view kind = kind_of_weight(name);
  constexpr std::array<std::string_view, 12> kBlocks = {"in_proj", "out_proj",  "x_proj", "q_proj",
                                                        "k_proj",  "v_proj",    "o_proj", "gate_proj",
                                                        "up_proj", "down_proj", "fc1",    "fc2"};
  if (std::find(kBlocks.begin(), kBlocks.end(), kind) != kBlocks.end()) return blocks;
  if (kind == "dt_proj") return QuantizedFormat{8, 0};
  if (kind == "embeddings" || kind == "embedding" || kind == "embed_tokens" || kind == "lm_head") return embedding;
  return std::nullopt;
}

bool is_quantized_part(std::string_view name) {
  return std::any_of(kParts.begin(), kParts.end(), [&](std::string_view part) {
    return name.ends_with(part) && name.substr(0, name.size() - part.size()).ends_with(".weight");
  });
}

std::vector<std::pair<std::string, Tensor>> stored_parts(const std::string& name, const QuantizedMatrix& matrix) {
  return {{name + ".codes", matrix.format.bits == 8 ? matrix.codes : pack_codes(matrix)},
          {name + ".scales", matrix.scales},
          {name + ".zeros", matrix.zeros}};
}

QuantizedMatrix StoredParts::read(const std::string& name, std::int64_t out, std::int64_t in) const {
  const Tensor& stored = require(codes, name + ".codes", DType::u8);
  const Tensor& factors = require(scales, name + ".scales", DType::bf16);
  const Tensor& offsets = require(zeros, name + ".zeros", DType::u8);
  const Shape of_bytes = {out, in};
  const Shape of_halves = {out, (in + 1) / 2};
  if (stored.shape() != of_bytes && stored.shape() != of_halves) {
    fail("wrong shape: {}.codes is {}, the configuration asks for {} (8 bits) or {} (4 bits)", name,
         to_string(stored.shape()), to_string(of_bytes), to_string(of_halves));
  }
  QuantizedFormat format;
  if (stored.shape() != of_bytes) {
    const auto* group = std::find_if(kGroups.begin(), kGroups.end(), [&](std::int64_t columns) {
      return factors.shape() == Shape{out, QuantizedFormat{4, columns}.groups_of(in)};
    });
    format = {4, group == kGroups.end() ? kGroups.front() : *group};
  }
  const Shape of_groups = {out, format.groups_of(in)};
  if (factors.shape() != of_groups) {
    fail("wrong shape: {}.scales is {}, which no size of group gives for {} columns of {} bits", name,
         to_string(factors.shape()), in, format.bits);
  }
  if (offsets.shape() != of_groups) {
    fail("wrong shape: {}.zeros is {}, the scales are {}", name, to_string(offsets.shape()), to_string(of_groups));
  }
  for (std::int64_t i = 0; i < factors.size(); ++i) {
    const float scale = factors.as<BFloat16>()[i].to_float();
    if (!std::isfinite(scale) || scale < 0) {
      fail("damaged: {}.scales holds {}; scales are finite and not negative", name, scale);
    }
    if (offsets.as<std::uint8_t>()[i] > format.max_code()) {
      fail("damaged: {}.zeros holds {}; codes of {} bits end at {}", name, offsets.as<std::uint8_t>()[i], format.bits,
           format.max_code());
    }
  }
  return {format, format.bits == 8 ? stored : unpack_codes(stored, in), factors, offsets};
}

}  // namespace molt
