// quantize_calibrated(): applies a calibrated method to a model's matrices, layer by layer, over calibration text.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compress/quantizer.h"
#include "model/architecture.h"
#include "model/quantized_weights.h"

namespace molt {

/// The matrices of the blocks, and the head, that `plan` has a format for, rounded by `quantizer` and keyed by the
/// source's names. Each layer is calibrated on what the rounded layers before it put out over `windows`, its matrices
/// together; the head on what they put out all together, from the embedding as it was. An embedding apart from the head
/// has no product, and is not among them. `progress` is called with the layers done and all there are, the head among
/// them. Throws Error that names the matrix at fault.
std::map<std::string, QuantizedMatrix> quantize_calibrated(
    const ModelSpec& spec, const WeightSource& source, const std::vector<std::vector<TokenId>>& windows,
    const QuantizationPlan& plan, const Quantizer& quantizer,
    const std::function<void(std::int64_t done, std::int64_t total)>& progress);

}  // namespace molt
