#include "compress/quantize_model.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "base/parallel.h"
#include "compress/calibrated.h"
#include "compress/model_folder.h"
#include "compress/quantizer.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Adds the error of `rounded` to `kind`.
void add_error(const Tensor& weight, const QuantizedMatrix& rounded, QuantizedKind& kind) {
  const Tensor before = weight.to_f32();
  const Tensor after = dequantize(rounded);
  const auto* w = before.as<float>();
  const auto* q = after.as<float>();
  for (std::int64_t i = 0; i < before.size(); ++i) {
    const double off = static_cast<double>(w[i]) - q[i];
    kind.squared_error += off * off;
    kind.squared_sum += static_cast<double>(w[i]) * w[i];
  }
}

nlohmann::json format_json(const QuantizedFormat& format) {
  nlohmann::json json = {{"format", format.bits == 8 ? "int8" : "int4"}};
  if (format.group != 0) json["group"] = format.group;
  return json;
}

std::map<std::string, std::string> metadata(const QuantizeOptions& options) {
  nlohmann::json json = {{"version", 1},
                         {"method", options.method},
                         {"blocks", format_json(options.plan.blocks)},
                         {"embedding", format_json(options.plan.embedding)}};
  if (find_quantizer(options.method).calibrated) {
    json["calibration"] = {{"samples", options.calibration.samples},
                           {"length", options.calibration.length},
                           {"seed", options.calibration.seed},
                           {"text_bytes", options.text.size()}};
  }
  return {{"format", "pt"}, {"quantization", json.dump()}};
}

bool is_matrix(const Tensor& tensor) {
  const DType dtype = tensor.dtype();
  return tensor.shape().size() == 2 &&
         (dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f64);
}

/// The tensors to quantize or to keep: all but a tied head that was saved once more.
NamedTensors tensors_of(const Checkpoint& checkpoint, const ModelSpec& spec) {
  NamedTensors tensors;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (!spec.config.tie_embeddings || name != "lm_head.weight") tensors.emplace_back(name, tensor);
  }
  return tensors;
}

/// What a calibrated method makes of the matrices that have inputs; nothing for the others.
std::map<std::string, QuantizedMatrix> calibrate(const Checkpoint& checkpoint, const ModelSpec& spec,
                                                 const QuantizeOptions& options, const Quantizer& quantizer) {
  const auto windows = calibration_windows(checkpoint.folder(), spec.config, "", options.text, options.calibration);
  return quantize_calibrated(spec, CheckpointWeights(checkpoint), windows, options.plan, quantizer,
                             [&](std::int64_t done, std::int64_t total) {
                               if (options.progress) options.progress("calibrating", done, total);
                             });
}

}  // namespace

double QuantizedKind::relative_error() const {
  return squared_sum > 0 ? std::sqrt(squared_error / squared_sum) : 0;
}

QuantizeReport quantize_model(const std::string& folder, const std::string& out, const QuantizeOptions& options) {
  const QuantizerEntry& entry = find_quantizer(options.method);
  if (entry.calibrated && options.text.empty()) fail("the method '{}' needs calibration text", options.method);
  const auto quantizer = entry.make();
  const Checkpoint checkpoint = Checkpoint::open(folder);
  refuse_quantized(checkpoint);
  const ModelSpec spec = spec_of(checkpoint);
  const NamedTensors tensors = tensors_of(checkpoint, spec);
  NewFolder made(out);
  std::map<std::string, QuantizedMatrix> calibrated;
  if (entry.calibrated) calibrated = calibrate(checkpoint, spec, options, *quantizer);

  QuantizeReport report;
  NamedTensors written;
  std::int64_t total = 0;
  std::int64_t done = 0;
  for (const auto& [name, tensor] : tensors) total += tensor.size();
  for (const auto& [name, tensor] : tensors) {
    const auto format = is_matrix(tensor) ? options.plan.format_of(name) : std::nullopt;
    QuantizedKind& kind = format ? report.kinds[std::string(kind_of_weight(name))] : report.kept;
    ++kind.matrices;
    kind.weights += tensor.size();
    kind.bytes_before += tensor.bytes();
    NamedTensors parts = {{name, tensor}};
    if (format) {
      try {
        const auto found = calibrated.find(name);
        const QuantizedMatrix rounded = found != calibrated.end() ? found->second
                                        : entry.calibrated        ? round_to_nearest(tensor, *format)
                                                                  : quantizer->quantize(tensor, *format, nullptr);
        kind.format = to_string(*format);
        add_error(tensor, rounded, kind);
        parts = stored_parts(name, rounded);
      } catch (const Error& error) {
        fail("{}: {}: {}", checkpoint.source(), name, error.what());
      }
    }
    for (auto& part : parts) {
      kind.bytes_after += part.second.bytes();
      written.push_back(std::move(part));
    }
    done += tensor.size();
    if (options.progress) options.progress("rounding", done, total);
  }
  if (report.kinds.empty()) fail("{}: holds no matrix that molt quantizes", checkpoint.source());
  // By falling size of elements: then all of them lie aligned in the file.
  std::stable_sort(written.begin(), written.end(),
                   [](const auto& a, const auto& b) { return size_of(a.second.dtype()) > size_of(b.second.dtype()); });
  write_safetensors(made.file("model.safetensors"), written, metadata(options));
  copy_companions(checkpoint.folder(), made);
  made.commit();
  return report;
}

}  // namespace molt
