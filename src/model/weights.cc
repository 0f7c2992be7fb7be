#include "model/weights.h"

#include "base/fail.h"

namespace molt {
namespace {

constexpr std::size_t kMostListed = 20;  // a wrong config makes hundreds of faults: the first ones tell enough

bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16 || dtype == DType::f64;
}

// Of all stand-ins together. Those of published models' layers stay far below.
constexpr std::int64_t kMostStandInFloats = std::int64_t{1} << 24;

}  // namespace

WeightLoader::WeightLoader(const WeightSource& source, Naming naming, const Backend& backend, DType dtype,
                           std::optional<QuantizationPlan> plan)
    : source_(source), naming_(std::move(naming)), backend_(backend), dtype_(dtype), plan_(plan) {}

std::optional<Tensor> WeightLoader::take(const std::string& name, const Shape& shape) {
  const std::string file_name = naming_(name);
  asked_.insert(file_name);
  std::optional<Tensor> tensor = source_.find(file_name, shape);
  if (!tensor) {
    faults_.push_back(fmt::format("missing: {} {}", file_name, to_string(shape)));
  } else if (tensor->shape() != shape) {
    faults_.push_back(fmt::format("wrong shape: {} is {}, the configuration asks for {}", file_name,
                                  to_string(tensor->shape()), to_string(shape)));
    tensor.reset();
  } else if (!is_float(tensor->dtype())) {
    faults_.push_back(fmt::format("wrong type: {} is {}, floating point is needed (f32, f16, bf16)", file_name,
                                  name_of(tensor->dtype())));
    tensor.reset();
  }
  return tensor;
}

std::unique_ptr<PackedMatrix> WeightLoader::matrix(const std::string& name, std::int64_t out, std::int64_t in) {
  auto packed = read_matrix(name, out, in);
  source_.drop_pages();  // else the model would be in memory twice by the time it is loaded
  return packed;
}

std::unique_ptr<PackedMatrix> WeightLoader::read_matrix(const std::string& name, std::int64_t out, std::int64_t in) {
  const std::string file_name = naming_(name);
  const bool stored_quantized = source_.has(file_name + ".codes");
  const std::optional<Tensor> tensor = stored_quantized ? std::nullopt : take(name, {out, in});
  StoredParts parts;
  if (stored_quantized) {
    for (const auto& [suffix, part] :
         {std::pair(".codes", &parts.codes), std::pair(".scales", &parts.scales), std::pair(".zeros", &parts.zeros)}) {
      *part = source_.find(file_name + suffix, {});
      asked_.insert(file_name + suffix);
    }
  } else if (!tensor || !faults_.empty()) {
    return nullptr;  // finish() will throw: pack nothing more
  }
  try {
    if (stored_quantized) return pack(parts.read(file_name, out, in));
    const auto format = plan_ ? plan_->format_of(name) : std::nullopt;
    if (format) return pack(round_to_nearest(*tensor, *format));
  } catch (const Error& error) {
    faults_.push_back(stored_quantized ? error.what() : fmt::format("{}: {}", file_name, error.what()));
    return nullptr;
  }
  formats_.emplace(name_of(dtype_));
  return backend_.pack(*tensor, dtype_);
}

std::unique_ptr<PackedMatrix> WeightLoader::pack(const QuantizedMatrix& matrix) {
  formats_.insert(to_string(matrix.format));
  return faults_.empty() ? backend_.pack(matrix) : nullptr;
}

bool WeightLoader::quantizes(const std::string& name) const {
  return source_.has(naming_(name) + ".codes") || (plan_ && plan_->format_of(name));
}

std::string WeightLoader::formats() const {
  return fmt::format("{}", fmt::join(formats_, ", "));
}

Tensor WeightLoader::vector(const std::string& name, const Shape& shape) {
  const std::optional<Tensor> tensor = take(name, shape);
  return tensor ? tensor->to_f32() : stand_in(shape);
}

Tensor WeightLoader::raw(const std::string& name, const Shape& shape) {
  return take(name, shape).value_or(Tensor::zeros(DType::f32, {1}));
}

Tensor WeightLoader::stand_in(const Shape& shape) {
  stand_in_floats_ += element_count(shape);
  if (stand_in_floats_ > kMostStandInFloats) report(faults_, " (the others were not looked at)");
  return Tensor::zeros(DType::f32, shape);
}

bool WeightLoader::has(const std::string& name) const {
  return source_.has(naming_(name));
}

void WeightLoader::ignore(const std::string& name) {
  asked_.insert(naming_(name));
}

void WeightLoader::finish() const {
  std::vector<std::string> faults = faults_;
  for (const std::string& name : source_.names()) {
    if (!asked_.contains(name)) faults.push_back(fmt::format("unexpected: {}", name));
  }
  if (!faults.empty()) report(std::move(faults), "");
}

void WeightLoader::report(std::vector<std::string> faults, const char* remark) const {
  const std::size_t count = faults.size();
  if (count > kMostListed) {
    faults.resize(kMostListed);
    faults.push_back(fmt::format("... and {} more", count - kMostListed));
  }
  fail(
      "{}: the tensors do not fit the configuration ({} {}{}):\n  {}\nCheck that the configuration belongs to these "
      "weights.",
      source_.description(), count, count == 1 ? "fault" : "faults", remark, fmt::join(faults, "\n  "));
}

}  // namespace molt
