// The functions of this instruction set's table, as table.cc lists them; kernels.h says what each does.
#pragma once

#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {

void rms_norm(const float* x, const float* weight, float eps, float* y, int64_t n);
void add_rms_norm(float* residual, const float* h, const float* weight, float eps, float* y, int64_t n);
void gated_rms_norm(const float* x, const float* z, const float* weight, float eps, bool norm_before_gate, float* y,
                    int64_t n);
void layer_norm(const float* x, const float* weight, const float* bias, float eps, float* y, int64_t n);
void exp(const float* x, float* y, int64_t n);
void exp2_decay(const float* x, float* y, int64_t n);
void silu_gate(const float* x, const float* z, float* y, int64_t n);
void softplus(const float* x, const float* bias, float low, float high, float* y, int64_t n);
float sum(const float* x, int64_t n);
float sum_positive(const float* x, int64_t n);
float sum_magnitudes(const float* x, int64_t n);
float sum_squares(const float* x, int64_t n);
float sum_products(const float* x, float x_factor, const float* y, float y_factor, int64_t n);
void round_scaled_row(const float* x, float factor, int64_t n, int64_t padded, void* rounded);
void pack_scaled_rows(const float* const* rows, const float* factors, int count, int64_t n, int64_t steps, void* panel);
void greatest_of_rows(const float* x, int64_t stride, int64_t rows, int64_t n, float* greatest);
uint64_t at_least(const float* x, int64_t n, float least);
void f16_to_f32(const void* x, float* y, int64_t n);
void bf16_to_f32(const void* x, float* y, int64_t n);
void round_state(const float* x, const RoundedElementsAt& to, int64_t n);
void causal_conv(const ConvSequence& sequence);
void selective_scan(const ScanSequence& sequence);
void ssd_prepare(const SsdGroupChunk& chunk);
void ssd_chunk(const SsdHead& head);
void ssd_steps(const SsdHead& head);
void selective_scan_writes(const ScanWrites& writes);
void ssd_writes(const SsdWrites& writes);
void attention_block(const AttentionTile& tile);
void attention_merge(const AttentionSums& from, int64_t rows, int64_t head_dim, const AttentionSums& into);
void column_shares(const float* sizes, int64_t rows, int64_t cols, float* shares);

}  // namespace molt::MOLT_ISA
