// Dequantization of ggml's block formats, one function each; ggml_type.h says what they have in common.
#pragma once

#include <cstddef>
#include <cstdint>

namespace molt::ggml {

void dequantize_q4_0(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_q4_1(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_q5_0(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_q5_1(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_q8_0(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_q2_k(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_q3_k(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_q4_k(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_q5_k(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_q6_k(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_iq4_nl(const std::byte* in, std::int64_t blocks, float* out);
void dequantize_iq4_xs(const std::byte* in, std::int64_t blocks, float* out);

}  // namespace molt::ggml
