// Quantizer: a method that rounds a weight matrix. Adding one is adding a file that registers it:
//
//   namespace { const Registration<QuantizerEntry> registration{"rtn", {"one line for --help", calibrated, &make}}; }
//
// A method sees one matrix at a time: its weights and, if it is calibrated, the second moments of the inputs that the
// matrix met on calibration text. It knows no model, no file and no other matrix.
//
// Thread-safety: quantize() is const and may run on several threads; it may use parallel_for itself.
#pragma once

#include <memory>
#include <string>

#include "base/registry.h"
#include "compress/moments.h"
#include "tensor/quantized_matrix.h"

namespace molt {

class Quantizer {
 public:
  virtual ~Quantizer() = default;

  /// `weight` [N, K], of any floating point dtype, rounded to `format`. `inputs`: null unless the method is calibrated.
  /// Throws Error when a weight is not finite or the moments are of no use.
  virtual QuantizedMatrix quantize(const Tensor& weight, const QuantizedFormat& format,
                                   const InputMoments* inputs) const = 0;
};

/// A method, under the name that --method takes.
struct QuantizerEntry {
  std::string summary;  // one line for --help
  bool calibrated;      // whether it needs calibration text
  std::unique_ptr<Quantizer> (*make)();
};

/// The method of that name. Throws Error that lists those there are.
const QuantizerEntry& find_quantizer(const std::string& name);

}  // namespace molt
