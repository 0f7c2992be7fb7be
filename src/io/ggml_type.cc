#include "io/ggml_type.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "base/parallel.h"
#include "io/ggml_blocks.h"

namespace molt {
namespace {

constexpr std::array<GgmlType, 16> kTypes = {{
    {0, "f32", 1, 4, DType::f32, nullptr},
    {1, "f16", 1, 2, DType::f16, nullptr},
    {30, "bf16", 1, 2, DType::bf16, nullptr},
    {28, "f64", 1, 8, DType::f64, nullptr},
    {2, "q4_0", 32, 18, std::nullopt, &ggml::dequantize_q4_0},
    {3, "q4_1", 32, 20, std::nullopt, &ggml::dequantize_q4_1},
    {6, "q5_0", 32, 22, std::nullopt, &ggml::dequantize_q5_0},
    {7, "q5_1", 32, 24, std::nullopt, &ggml::dequantize_q5_1},
    {8, "q8_0", 32, 34, std::nullopt, &ggml::dequantize_q8_0},
    {10, "q2_k", 256, 84, std::nullopt, &ggml::dequantize_q2_k},
    {11, "q3_k", 256, 110, std::nullopt, &ggml::dequantize_q3_k},
    {12, "q4_k", 256, 144, std::nullopt, &ggml::dequantize_q4_k},
    {13, "q5_k", 256, 176, std::nullopt, &ggml::dequantize_q5_k},
    {14, "q6_k", 256, 210, std::nullopt, &ggml::dequantize_q6_k},
    {20, "iq4_nl", 32, 18, std::nullopt, &ggml::dequantize_iq4_nl},
    {23, "iq4_xs", 256, 136, std::nullopt, &ggml::dequantize_iq4_xs},
}};

// Types that exist and that molt does not read, for messages.
constexpr std::array<std::pair<std::uint32_t, const char*>, 18> kOthers = {{{9, "q8_1"},
                                                                            {15, "q8_k"},
                                                                            {16, "iq2_xxs"},
                                                                            {17, "iq2_xs"},
                                                                            {18, "iq3_xxs"},
                                                                            {19, "iq1_s"},
                                                                            {21, "iq3_s"},
                                                                            {22, "iq2_s"},
                                                                            {24, "i8"},
                                                                            {25, "i16"},
                                                                            {26, "i32"},
                                                                            {27, "i64"},
                                                                            {29, "iq1_m"},
                                                                            {34, "tq1_0"},
                                                                            {35, "tq2_0"},
                                                                            {39, "mxfp4"},
                                                                            {40, "nvfp4"},
                                                                            {41, "q1_0"}}};

constexpr std::int64_t kGrain = 1 << 16;  // elements that one thread takes at a time

}  // namespace

const GgmlType* find_ggml_type(std::uint32_t id) {
  const auto* type = std::find_if(kTypes.begin(), kTypes.end(), [id](const GgmlType& t) { return t.id == id; });
  return type == kTypes.end() ? nullptr : type;
}

std::string describe_ggml_type(std::uint32_t id) {
  for (const auto& [other, name] : kOthers) {
    if (other == id) return name;
  }
  return fmt::format("number {}", id);
}

std::string known_ggml_types() {
  std::string names;
  for (const GgmlType& type : kTypes) names += fmt::format("{}{}", names.empty() ? "" : ", ", type.name);
  return names;
}

void dequantize(const GgmlType& type, std::span<const std::byte> in, float* out) {
  MOLT_CHECK(type.dequantize != nullptr);
  const std::int64_t blocks = static_cast<std::int64_t>(in.size()) / type.block_bytes;
  parallel_for(blocks, kGrain / type.block_elements, [&](std::int64_t begin, std::int64_t end) {
    type.dequantize(in.data() + begin * type.block_bytes, end - begin, out + begin * type.block_elements);
  });
}

}  // namespace molt
