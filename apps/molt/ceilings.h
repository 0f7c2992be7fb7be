// What this machine can do at best, measured: the figures that a model's speed is to be held against.
#pragma once

#include "model/model.h"

namespace molt::cli {

struct Ceilings {
  double read_gb_per_s = 0;           // memory read by all threads together; a device: copied, both ways
  double matmul_gflop_per_s = 0;      // a large matrix product in the model's dtype, int8 if it is quantized
  double matmul_f32_gflop_per_s = 0;  // the same in float32, which all other ops compute in
};

/// Measures with the present number of threads; takes about half a second.
Ceilings measure_ceilings(const ModelCore& model);

}  // namespace molt::cli
