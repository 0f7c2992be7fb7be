#include "compress/quantize_model.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/fail.h"
#include "base/parallel.h"
#include "compress/calibrated.h"
#include "compress/quantizer.h"
#include "io/checkpoint.h"
#include "io/json_file.h"
#include "io/safetensors.h"
#include "model/architecture.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

constexpr std::array<const char*, 10> kCopied = {"config.json",
                                                 "generation_config.json",
                                                 "tokenizer.json",
                                                 "tokenizer_config.json",
                                                 "special_tokens_map.json",
                                                 "vocab.json",
                                                 "merges.txt",
                                                 "added_tokens.json",
                                                 "chat_template.jinja",
                                                 "LICENSE"};

/// A folder that is filled under a temporary name beside its own, and removed unless commit() is reached.
class NewFolder {
 public:
  explicit NewFolder(const std::string& path) : path_(path) {
    while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
    std::error_code error;
    if (fs::exists(fs::symlink_status(path_, error))) {
      fail("{}: exists already; name a new folder, or remove that one first", path_);
    }
    temporary_ = fmt::format("{}.tmp-{}", path_, ::getpid());
    fs::create_directory(temporary_, error);
    if (error) fail("{}: cannot create the folder: {}", temporary_, error.message());
  }
  ~NewFolder() {
    std::error_code ignored;
    if (!done_) fs::remove_all(temporary_, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  std::string file(const std::string& name) const { return (fs::path(temporary_) / name).string(); }

  void commit() {
    std::error_code error;
    fs::rename(temporary_, path_, error);
    if (error) fail("{}: cannot rename {} to it: {}", path_, temporary_, error.message());
    done_ = true;
  }

 private:
  std::string path_;
  std::string temporary_;
  bool done_ = false;
};

void copy_companions(const std::string& from, const NewFolder& to) {
  for (const char* name : kCopied) {
    const fs::path source = fs::path(from) / name;
    std::error_code error;
    if (!fs::is_regular_file(source, error)) continue;
    fs::copy_file(source, to.file(name), error);
    if (error) fail("{}: cannot copy to {}: {}", source.string(), to.file(name), error.message());
  }
}

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

ModelSpec spec_of(const Checkpoint& checkpoint) {
  const std::string config = (fs::path(checkpoint.folder()) / "config.json").string();
  return read_model_spec(read_json_file(config), config, checkpoint.find("lm_head.weight") != nullptr);
}

/// The tensors to quantize or to keep: all but a tied head that was saved once more.
NamedTensors tensors_of(const Checkpoint& checkpoint, const ModelSpec& spec) {
  NamedTensors tensors;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (is_quantized_part(name)) fail("{}: is quantized already: start from the original model", checkpoint.source());
    if (!spec.config.tie_embeddings || name != "lm_head.weight") tensors.emplace_back(name, tensor);
  }
  return tensors;
}

/// What a calibrated method makes of the matrices that have inputs; nothing for the others.
std::map<std::string, QuantizedMatrix> calibrate(const Checkpoint& checkpoint, const ModelSpec& spec,
                                                 const QuantizeOptions& options, const Quantizer& quantizer) {
  // The model for its tokenizer; the pass loads its weights itself, a block at a time.
  const auto windows = calibration_windows(Model::load(checkpoint.folder()), options.text, options.calibration);
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
