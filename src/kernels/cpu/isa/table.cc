// The table of this instruction set.
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/pair_gemm.h"
#include "kernels/cpu/isa/panel_gemm.h"
#include "kernels/cpu/isa/quantized_gemm.h"
#include "kernels/cpu/isa/vec.h"

#define MOLT_ISA_STRING_(x) #x
#define MOLT_ISA_STRING(x) MOLT_ISA_STRING_(x)

namespace molt::MOLT_ISA {

extern const Kernels kernels;
const Kernels kernels = {
    .name = MOLT_ISA_STRING(MOLT_ISA),
    .rms_norm = rms_norm,
    .add_rms_norm = add_rms_norm,
    .gated_rms_norm = gated_rms_norm,
    .layer_norm = layer_norm,
    .exp = exp,
    .exp2_decay = exp2_decay,
    .silu_gate = silu_gate,
    .softplus = softplus,
    .sum = sum,
    .sum_positive = sum_positive,
    .sum_magnitudes = sum_magnitudes,
    .sum_squares = sum_squares,
    .sum_products = sum_products,
    .round_scaled_row = round_scaled_row,
    .pack_scaled_rows = pack_scaled_rows,
    .greatest_of_rows = greatest_of_rows,
    .at_least = at_least,
    .f16_to_f32 = f16_to_f32,
    .bf16_to_f32 = bf16_to_f32,
    .round_state = round_state,
    .causal_conv = causal_conv,
    .selective_scan = selective_scan,
    .ssd_prepare = ssd_prepare,
    .ssd_chunk = ssd_chunk,
    .ssd_round = nullptr,
    .ssd_chunk_rounded = nullptr,
    .ssd_steps = ssd_steps,
    .selective_scan_writes = selective_scan_writes,
    .ssd_writes = ssd_writes,
    .column_shares = column_shares,
    .attention_block = attention_block,
    .attention_merge = attention_merge,
    .piece_rows = 192,
    .piece_bytes = INT64_MAX,
    .rounded_bytes = sizeof(Rounded),
    .round_row = round_row,
    .multiply_panel_f32 = multiply_panel_f32,
    .multiply_panel_bf16 = multiply_panel_bf16,
    .code_bytes = sizeof(Code),
    .round_blocks = round_blocks,
    .multiply_panel_int8 = multiply_panel_int8,
    .multiply_panel_int4 = multiply_panel_int4,
    .pair_columns = pair_columns,
    .multiply_panel_pairs = multiply_panel_pairs,
};

}  // namespace molt::MOLT_ISA
