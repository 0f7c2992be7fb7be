#include "molt/state.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/aligned_memory.h"
#include "base/fail.h"
#include "io/safetensors.h"
#include "model/model.h"

namespace molt {
namespace {

constexpr const char* kFormat = "molt-state-1";

}  // namespace

void State::Free::operator()(float* data) const {
  free_aligned(data);
}

State::State(const Model& model)
    : data_(allocate_floats(model.core()->state_layout().floats).release()),
      size_(model.core()->state_layout().floats),
      core_(model.core()) {
  std::fill_n(data_.get(), size_, 0.0F);
}

State::State(const State& other)
    : data_(allocate_floats(other.size_).release()), size_(other.size_), tokens_(other.tokens_), core_(other.core_) {
  std::copy_n(other.data_.get(), size_, data_.get());
}

State& State::operator=(const State& other) {
  if (this == &other) return *this;
  if (data_ == nullptr || size_ != other.size_) return *this = State(other);
  std::copy_n(other.data_.get(), size_, data_.get());  // large: its memory serves again
  tokens_ = other.tokens_;
  core_ = other.core_;
  return *this;
}

State::State(State&&) noexcept = default;
State& State::operator=(State&&) noexcept = default;
State::~State() = default;

bool State::belongs_to(const Model& model) const {
  return core_ == model.core() || core_->fingerprint() == model.core()->fingerprint();
}

bool State::operator==(const State& other) const {
  return core_->fingerprint() == other.core_->fingerprint() && tokens_ == other.tokens_ &&
         std::memcmp(data_.get(), other.data_.get(), static_cast<std::size_t>(size_) * sizeof(float)) == 0;
}

void State::save(const std::string& path, const std::vector<TokenId>& ids) const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  Tensor id_tensor = Tensor::uninitialized(DType::i32, {static_cast<std::int64_t>(ids.size())});
  std::copy(ids.begin(), ids.end(), id_tensor.as<std::int32_t>());
  tensors.emplace_back("ids", id_tensor);
  for (const StateLayout::Part& part : core_->state_layout().parts) {
    Tensor tensor = Tensor::uninitialized(DType::f32, part.shape);
    std::copy_n(data_.get() + part.offset, tensor.size(), tensor.as<float>());
    tensors.emplace_back(part.name, tensor);
  }
  write_safetensors(path, tensors,
                    {{"format", kFormat},
                     {"model", core_->fingerprint()},
                     {"architecture", core_->config().architecture},
                     {"tokens", std::to_string(tokens_)}});
}

State::Saved State::load(const std::string& path, const Model& model) {
  const SafetensorsFile file = read_safetensors(path);
  const auto metadata = [&](const char* key) {
    const auto it = file.metadata.find(key);
    return it == file.metadata.end() ? std::string() : it->second;
  };
  if (metadata("format") != kFormat) fail("{}: not a state saved by molt (its metadata lacks \"{}\")", path, kFormat);
  const ModelCore& core = *model.core();
  if (metadata("model") != core.fingerprint()) {
    fail("{}: the state of another model ({} {}); {} is {} {}", path, metadata("architecture"), metadata("model"),
         model.source(), core.config().architecture, core.fingerprint());
  }
  const auto tensor = [&](const std::string& name, DType dtype, const Shape* shape) -> const Tensor& {
    const auto it = file.tensors.find(name);
    if (it == file.tensors.end()) fail("{}: tensor {} is missing: the file is damaged", path, name);
    if (it->second.dtype() != dtype || (shape != nullptr && it->second.shape() != *shape)) {
      fail("{}: tensor {} is {} {}, which does not fit {}: the file is damaged", path, name,
           name_of(it->second.dtype()), to_string(it->second.shape()), model.source());
    }
    return it->second;
  };

  Saved saved{State(model), {}};
  for (const StateLayout::Part& part : core.state_layout().parts) {
    const Tensor& stored = tensor(part.name, DType::f32, &part.shape);
    std::memcpy(saved.state.data() + part.offset, stored.data(), static_cast<std::size_t>(stored.bytes()));
  }
  const Tensor& ids = tensor("ids", DType::i32, nullptr);
  saved.ids.resize(static_cast<std::size_t>(ids.size()));
  if (ids.size() > 0) std::memcpy(saved.ids.data(), ids.data(), static_cast<std::size_t>(ids.bytes()));

  const std::string tokens = metadata("tokens");
  const auto [end, error] = std::from_chars(tokens.data(), tokens.data() + tokens.size(), saved.state.tokens_);
  if (error != std::errc() || end != tokens.data() + tokens.size() || saved.state.tokens_ < 0 ||
      saved.state.tokens_ > ids.size()) {
    fail("{}: claims {} tokens of a text of {}: the file is damaged", path, tokens, ids.size());
  }
  for (const TokenId id : saved.ids) {
    if (id < 0 || id >= model.vocab_size()) {
      fail("{}: holds token {}, outside of the vocabulary of {}: the file is damaged", path, id, model.vocab_size());
    }
  }
  return saved;
}

}  // namespace molt
