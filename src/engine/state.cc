#include "molt/state.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/fail.h"
#include "io/safetensors.h"
#include "model/kv_blocks.h"
#include "model/model.h"

namespace molt {
namespace {

constexpr const char* kFormat = "molt-state-1";

DType dtype_of(StateType type) {
  return type == StateType::bf16 ? DType::bf16 : DType::f32;
}

/// A part of a state, as a tensor that points into its memory.
Tensor view(const StateLayout::Part& part, std::byte* state) {
  return {part.dtype, part.shape, state + part.offset, nullptr};
}

/// The bytes of a state on the host.
Tensor on_host(const ModelCore& core, std::byte* state, std::int64_t bytes) {
  return core.backend().memory().fetch(Tensor(DType::u8, {bytes}, state, nullptr));
}

/// Writes a tensor, f32 or bf16, to a part of a state on the host, rounded to nearest where that is less precise.
void assign(const Tensor& from, const StateLayout::Part& part, std::byte* state) {
  const Tensor converted = from.dtype() == part.dtype  ? from
                           : part.dtype == DType::bf16 ? from.to_bf16()
                                                       : from.to_f32();
  std::memcpy(state + part.offset, converted.data(), static_cast<std::size_t>(converted.bytes()));
}

/// Calls body(key, value) for each of the first `tokens`' keys and values in a layer, in the order [tokens, heads,
/// head_dim]; both are float&.
template <class Body>
void for_each_kv(const StateLayout::Kv& layer, std::span<std::byte* const> blocks, std::int64_t tokens, Body body) {
  const KvSequence sequence{blocks, layer.offset, tokens};
  for (std::int64_t t = 0; t < tokens; ++t) {
    float* block = sequence.block(t / kKvBlock);
    for (std::int64_t g = 0; g < layer.shape.heads; ++g) {
      for (std::int64_t p = 0; p < layer.shape.head_dim; ++p) {
        body(block[layer.shape.key(g, p, t % kKvBlock)], block[layer.shape.value(g, p, t % kKvBlock)]);
      }
    }
  }
}

/// Keys and values of a layer as tensors of their own, [tokens, heads, head_dim].
std::pair<Tensor, Tensor> gather_kv(const StateLayout::Kv& layer, std::span<std::byte* const> blocks,
                                    std::int64_t tokens) {
  const Shape shape = {tokens, layer.shape.heads, layer.shape.head_dim};
  std::pair<Tensor, Tensor> kv(Tensor::uninitialized(DType::f32, shape), Tensor::uninitialized(DType::f32, shape));
  float* keys = kv.first.as<float>();
  float* values = kv.second.as<float>();
  for_each_kv(layer, blocks, tokens, [&](float key, float value) {
    *keys++ = key;
    *values++ = value;
  });
  return kv;
}

/// The inverse.
void scatter_kv(const std::pair<Tensor, Tensor>& kv, const StateLayout::Kv& layer, std::span<std::byte* const> blocks,
                std::int64_t tokens) {
  const auto* keys = kv.first.data();
  const auto* values = kv.second.data();
  for_each_kv(layer, blocks, tokens, [&](float& key, float& value) {
    std::memcpy(&key, keys, sizeof(float));  // of a file: perhaps not aligned
    std::memcpy(&value, values, sizeof(float));
    keys += sizeof(float);
    values += sizeof(float);
  });
}

}  // namespace

State::State(std::shared_ptr<const ModelCore> core, StateType type) : type_(type), core_(std::move(core)) {
  bytes_ = core_->state_layout(dtype_of(type)).bytes;
  const Memory& memory = core_->backend().memory();
  data_ = memory.allocate(bytes_);
  memory.clear(data_.get(), bytes_);
  core_->backend().finish();  // another thread may use it next
  kv_ = std::make_unique<KvBlocks>(core_->state_layout().kv_block_bytes);
}

State::State(const Model& model)
    : State(model, model.core()->state_dtype() == DType::bf16 ? StateType::bf16 : StateType::f32) {}

State::State(const Model& model, StateType type) : State(model.core(), type) {}

State::State(const State& other)
    : data_(other.core_->backend().memory().allocate(other.bytes_)),
      bytes_(other.bytes_),
      kv_(std::make_unique<KvBlocks>(other.kv_->copy(other.tokens_))),
      tokens_(other.tokens_),
      type_(other.type_),
      core_(other.core_) {
  core_->backend().memory().copy(other.data(), data(), bytes_);
  core_->backend().finish();
}

State& State::operator=(const State& other) {
  if (this == &other) return *this;
  const Memory& memory = other.core_->backend().memory();
  if (data_ == nullptr || bytes_ != other.bytes_ || &core_->backend().memory() != &memory) return *this = State(other);
  memory.copy(other.data(), data(), bytes_);  // large: its memory serves again
  other.core_->backend().finish();
  *kv_ = other.kv_->copy(other.tokens_);
  tokens_ = other.tokens_;
  type_ = other.type_;
  core_ = other.core_;
  return *this;
}

State::State(State&&) noexcept = default;
State& State::operator=(State&&) noexcept = default;
State::~State() = default;

bool State::belongs_to(const Model& model) const {
  return core_ == model.core() || core_->fingerprint() == model.core()->fingerprint();
}

void State::reserve(std::int64_t more) {
  kv_->reserve(tokens_ + more);
}

std::span<std::byte* const> State::kv_blocks() const {
  return kv_->blocks();
}

std::int64_t State::bytes() const {
  return bytes_ + kv_->bytes();
}

State State::converted(StateType type) const {
  State result(core_, type);
  result.tokens_ = tokens_;
  *result.kv_ = kv_->copy(tokens_);
  const auto& from = core_->state_layout(dtype_of(type_)).parts;
  const auto& to = core_->state_layout(dtype_of(type)).parts;
  const Tensor old = on_host(*core_, data(), bytes_);
  const Tensor fresh = Tensor::zeros(DType::u8, {result.bytes_});
  for (std::size_t p = 0; p < from.size(); ++p) assign(view(from[p], old.data()), to[p], fresh.data());
  core_->backend().memory().upload(fresh.data(), result.data(), result.bytes_);
  return result;
}

bool State::operator==(const State& other) const {
  if (core_->fingerprint() != other.core_->fingerprint() || tokens_ != other.tokens_ || type_ != other.type_) {
    return false;
  }
  const auto same = [](const Tensor& a, const Tensor& b) {
    return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())) == 0;
  };
  if (!same(on_host(*core_, data(), bytes_), on_host(*other.core_, other.data(), bytes_))) return false;
  const auto& layers = core_->state_layout().kv;
  return std::all_of(layers.begin(), layers.end(), [&](const StateLayout::Kv& layer) {
    const auto mine = gather_kv(layer, kv_blocks(), tokens_);
    const auto others = gather_kv(layer, other.kv_blocks(), tokens_);
    return same(mine.first, others.first) && same(mine.second, others.second);
  });
}

std::vector<float> State::values() const {
  std::vector<float> values;
  const Tensor here = on_host(*core_, data(), bytes_);
  for (const StateLayout::Part& part : core_->state_layout(dtype_of(type_)).parts) {
    const Tensor wide = view(part, here.data()).to_f32();
    values.insert(values.end(), wide.as<float>(), wide.as<float>() + wide.size());
  }
  for (const StateLayout::Kv& layer : core_->state_layout().kv) {
    const auto kv = gather_kv(layer, kv_blocks(), tokens_);
    for (const Tensor& part : {kv.first, kv.second}) {
      values.insert(values.end(), part.as<float>(), part.as<float>() + part.size());
    }
  }
  return values;
}

void State::save(const std::string& path, const std::vector<TokenId>& ids) const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  Tensor id_tensor = Tensor::uninitialized(DType::i32, {static_cast<std::int64_t>(ids.size())});
  std::copy(ids.begin(), ids.end(), id_tensor.as<std::int32_t>());
  tensors.emplace_back("ids", id_tensor);
  const Tensor here = on_host(*core_, data(), bytes_);
  for (const StateLayout::Part& part : core_->state_layout(dtype_of(type_)).parts) {
    tensors.emplace_back(part.name, view(part, here.data()));
  }
  for (const StateLayout::Kv& layer : core_->state_layout().kv) {
    const auto [keys, values] = gather_kv(layer, kv_blocks(), tokens_);
    tensors.emplace_back(layer.name + "keys", keys);
    tensors.emplace_back(layer.name + "values", values);
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
  // A tensor of the file in `dtype`, or in the less precise `or_dtype`.
  const auto tensor = [&](const std::string& name, DType dtype, DType or_dtype, const Shape* shape) -> const Tensor& {
    const auto it = file.tensors.find(name);
    if (it == file.tensors.end()) fail("{}: tensor {} is missing: the file is damaged", path, name);
    const bool known = it->second.dtype() == dtype || it->second.dtype() == or_dtype;
    if (!known || (shape != nullptr && it->second.shape() != *shape)) {
      fail("{}: tensor {} is {} {}, which does not fit {}: the file is damaged", path, name,
           name_of(it->second.dtype()), to_string(it->second.shape()), model.source());
    }
    return it->second;
  };

  Saved saved{State(model), {}};
  const auto& wide = core.state_layout(DType::f32).parts;
  const auto& rounded = core.state_layout(DType::bf16).parts;
  const Tensor here = Tensor::zeros(DType::u8, {saved.state.bytes()});
  for (std::size_t p = 0; p < wide.size(); ++p) {
    const Tensor& stored = tensor(wide[p].name, wide[p].dtype, rounded[p].dtype, &wide[p].shape);
    assign(stored, saved.state.type() == StateType::bf16 ? rounded[p] : wide[p], here.data());
  }
  core.backend().memory().upload(here.data(), saved.state.data(), saved.state.bytes());
  const Tensor& ids = tensor("ids", DType::i32, DType::i32, nullptr);
  saved.ids.resize(static_cast<std::size_t>(ids.size()));
  if (ids.size() > 0) std::memcpy(saved.ids.data(), ids.data(), static_cast<std::size_t>(ids.bytes()));

  const std::string tokens = metadata("tokens");
  const auto [end, error] = std::from_chars(tokens.data(), tokens.data() + tokens.size(), saved.state.tokens_);
  if (error != std::errc() || end != tokens.data() + tokens.size() || saved.state.tokens_ < 0 ||
      saved.state.tokens_ > ids.size()) {
    fail("{}: claims {} tokens of a text of {}: the file is damaged", path, tokens, ids.size());
  }
  for (const StateLayout::Kv& layer : core.state_layout().kv) {
    const Shape shape = {saved.state.tokens(), layer.shape.heads, layer.shape.head_dim};
    const std::pair kv(tensor(layer.name + "keys", DType::f32, DType::f32, &shape),
                       tensor(layer.name + "values", DType::f32, DType::f32, &shape));
    saved.state.reserve(0);  // only now: the file must be as large as what it claims to hold
    scatter_kv(kv, layer, saved.state.kv_blocks(), saved.state.tokens());
  }
  for (const TokenId id : saved.ids) {
    if (id < 0 || id >= model.vocab_size()) {
      fail("{}: holds token {}, outside of the vocabulary of {}: the file is damaged", path, id, model.vocab_size());
    }
  }
  return saved;
}

}  // namespace molt
