#include "compress/calibrated.h"

#include <algorithm>

#include "base/fail.h"
#include "compress/calibration_pass.h"

namespace molt {
namespace {

QuantizedMatrix rounded(const std::string& name, const WeightSource& source, const QuantizedFormat& format,
                        const InputMoments& moments, const Quantizer& quantizer) {
  const std::optional<Tensor> weight = source.find(name, {});
  if (!weight) fail("{}: has no tensor {}", source.description(), name);
  try {
    return quantizer.quantize(*weight, format, &moments);
  } catch (const Error& error) {
    fail("{}: {}: {}", source.description(), name, error.what());
  }
}

}  // namespace

std::map<std::string, QuantizedMatrix> quantize_calibrated(
    const ModelSpec& spec, const WeightSource& source, const std::vector<std::vector<TokenId>>& windows,
    const QuantizationPlan& plan, const Quantizer& quantizer,
    const std::function<void(std::int64_t done, std::int64_t total)>& progress) {
  std::map<std::string, QuantizedMatrix> result;
  CalibrationPass pass(spec, source, make_backend("cpu"), windows);
  while (pass.layer() < pass.layers()) {
    std::set<std::string> wanted;
    for (const std::string& name : pass.matrices()) {
      if (plan.format_of(name)) wanted.insert(name);
    }
    Replacements replaced;
    for (const auto& [name, moments] : pass.measure(wanted, {})) {
      const QuantizedMatrix matrix = rounded(name, source, *plan.format_of(name), moments, quantizer);
      replaced.emplace(name, dequantize(matrix));
      result.emplace(name, matrix);
    }
    pass.advance(replaced);
    if (progress) progress(pass.layer(), pass.layers() + 1);
  }
  if (const auto format = plan.format_of(pass.head())) {
    result.emplace(pass.head(), rounded(pass.head(), source, *format, pass.measure_head(), quantizer));
  }
  if (progress) progress(pass.layers() + 1, pass.layers() + 1);
  return result;
}

}  // namespace molt
