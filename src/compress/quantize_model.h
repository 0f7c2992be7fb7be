// quantize_model(): a model folder in, a smaller one out.
//
// The new folder is complete (configuration and tokenizer are copied) and is read back wherever molt takes a model;
// docs/quantization.md has the layout. It appears whole or not at all: everything is written under another name beside
// it first.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "compress/calibration_text.h"
#include "model/quantized_weights.h"

namespace molt {

struct QuantizeOptions {
  QuantizationPlan plan;
  std::string method = "rtn";  // a registered Quantizer

  /// What a calibrated method watches the model read, documents separated by "<|endoftext|>", and how it is cut.
  std::string text;
  CalibrationText calibration;

  /// Called as work goes on, with what is being done (calibration, rounding), how much of it and how much there is.
  std::function<void(const std::string& what, std::int64_t done, std::int64_t total)> progress;
};

/// What became of the matrices of one kind ("in_proj"), or of what stayed as it was.
struct QuantizedKind {
  std::string format;  // "int8"
  std::int64_t matrices = 0;
  std::int64_t weights = 0;
  std::int64_t bytes_before = 0;
  std::int64_t bytes_after = 0;
  double squared_error = 0;  // sum of (w - q)^2
  double squared_sum = 0;    // sum of w^2

  /// |W - Q| / |W| over all of them, in the Frobenius norm.
  double relative_error() const;
};

struct QuantizeReport {
  std::map<std::string, QuantizedKind> kinds;
  QuantizedKind kept;  // tensors that stayed floating point
};

/// Quantizes the model in `folder` into the new folder `out`. Throws Error when the model cannot be read or is
/// quantized already, a weight is not finite, the method needs calibration text and there is too little, or `out`
/// exists or cannot be written. On all threads.
QuantizeReport quantize_model(const std::string& folder, const std::string& out, const QuantizeOptions& options);

}  // namespace molt
