// Kernels: the table of the functions that are compiled once per instruction set, on plain pointers.
//
// Who calls them (kernels/cpu/*.cc) knows shapes and threads; who implements them (isa/*.cc) knows neither, only rows of
// floats. select() gives the table for this machine.
#pragma once

#include <stdint.h>

namespace molt {

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

struct Kernels {
  const char* name;  // "avx512", "avx2", "portable", ...

  // Matrix products (panel_gemm.cc).
  int rounded_bytes;  // of an element that round_row() writes
  /// Rounds x [n] to bfloat16 (to nearest, ties to even) and pads it with zeros to `padded` elements, in whichever format
  /// this instruction set multiplies by: bfloat16, or float32 again.
  void (*round_row)(const float* x, int64_t n, int64_t padded, void* rounded);
  void (*multiply_panel_f32)(const PanelProduct& product);
  void (*multiply_panel_bf16)(const PanelProduct& product);
};

/// The best table that this machine can run, or the one that use_isa() named.
const Kernels& select_kernels();

}  // namespace molt
