// GGUF files of llama.cpp with `general.architecture` mamba (Mamba-1 and Falcon-Mamba), mamba2 or llama (gguf_llama.h).
//
// Hyper-parameters lie under keys that begin with the architecture's name; what a file does not say follows from its
// tensors. They differ from Hugging Face's in their names and in this: A is stored as it is, not as its logarithm; the
// convolution has no middle extent; Mamba-2's A and D are columns, and its gated norm, with a row a group, norms each
// group for itself. One epsilon serves all norms, those on dt, B and C of Falcon-Mamba too.
#include <array>
#include <string_view>
#include <utility>

#include "base/registry.h"
#include "io/gguf.h"
#include "io/tokenizer/gguf_spec.h"
#include "io/untrusted.h"
#include "model/archs/config_reading.h"
#include "model/archs/gguf_llama.h"
#include "model/blocks/mamba.h"
#include "model/blocks/mamba2.h"
#include "model/model_files.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

constexpr const char* kEmbedding = "token_embd.weight";
constexpr const char* kHead = "output.weight";

/// From what follows "backbone.layers.N." in canonical names to what follows "blk.N." here.
constexpr std::array<std::pair<std::string_view, std::string_view>, 15> kLayerNames = {{
    {"norm.weight", "attn_norm.weight"},
    {"mixer.in_proj.weight", "ssm_in.weight"},
    {"mixer.in_proj.bias", "ssm_in.bias"},
    {"mixer.conv1d.weight", "ssm_conv1d.weight"},
    {"mixer.conv1d.bias", "ssm_conv1d.bias"},
    {"mixer.x_proj.weight", "ssm_x.weight"},
    {"mixer.dt_proj.weight", "ssm_dt.weight"},
    {"mixer.dt_proj.bias", "ssm_dt.bias"},
    {"mixer.dt_bias", "ssm_dt.bias"},
    {"mixer.A", "ssm_a"},
    {"mixer.A_log", "ssm_a"},
    {"mixer.D", "ssm_d"},
    {"mixer.norm.weight", "ssm_norm.weight"},
    {"mixer.out_proj.weight", "ssm_out.weight"},
    {"mixer.out_proj.bias", "ssm_out.bias"},
}};

std::string file_name(const std::string& name) {
  if (name == "backbone.embeddings.weight") return kEmbedding;
  if (name == "backbone.norm_f.weight") return "output_norm.weight";
  if (name == "lm_head.weight") return kHead;
  constexpr std::string_view kLayers = "backbone.layers.";
  if (!name.starts_with(kLayers)) return name;
  const std::size_t dot = name.find('.', kLayers.size());
  const std::string_view part = std::string_view(name).substr(dot + 1);
  for (const auto& [canonical, here] : kLayerNames) {
    if (canonical == part) return fmt::format("blk.{}.{}", name.substr(kLayers.size(), dot - kLayers.size()), here);
  }
  return name;
}

/// Reads one file's hyper-parameters.
class SpecReader {
 public:
  SpecReader(const GgufFile& file, std::string architecture) : file_(file), prefix_(std::move(architecture)) {}

  ModelConfig model() const {
    ModelConfig config;
    config.d_model = integer("embedding_length", kWidths);
    config.n_layer = integer("block_count", {1, kLayers.high / 2});  // a transformer's layer is two of molt's blocks
    config.norm_eps = get_eps(file_.values, key("attention.layer_norm_rms_epsilon"), 1e-5, file_.name);
    config.tie_embeddings = !file_.tensors.contains(kHead);
    const auto table = file_.tensors.find(kEmbedding);
    if (table == file_.tensors.end() || table->second.shape.size() != 2) {
      fail("{}: the tensor {} [tokens, width] is missing", file_.name, kEmbedding);
    }
    config.vocab_size = table->second.shape[0];
    if (config.vocab_size < kVocabulary.low || config.vocab_size > kVocabulary.high) {
      fail("{}: {} has {} rows; molt reads vocabularies up to {}", file_.name, kEmbedding, config.vocab_size,
           kVocabulary.high);
    }
    config.n_tokens = config.vocab_size;
    const IntRange ids{0, config.vocab_size - 1};
    config.bos = static_cast<TokenId>(get_int(file_.values, "tokenizer.ggml.bos_token_id", 0, file_.name, ids));
    config.eos = static_cast<TokenId>(get_int(file_.values, "tokenizer.ggml.eos_token_id", 0, file_.name, ids));
    return config;
  }

  MambaBlockConfig mamba(const ModelConfig& model) const {
    MambaBlockConfig block;
    block.d_model = model.d_model;
    block.d_inner = integer("ssm.inner_size", kWidths);
    block.d_state = integer("ssm.state_size", kWidths);
    block.d_conv = integer("ssm.conv_kernel", kTaps);
    block.dt_rank = integer("ssm.time_step_rank", kWidths);
    block.bias = has("ssm_in.bias");
    block.conv_bias = has("ssm_conv1d.bias");
    block.norm_bcdt = get_bool(file_.values, key("ssm.dt_b_c_rms"), false, file_.name);
    block.bcdt_norm_eps = model.norm_eps;
    return block;
  }

  Mamba2BlockConfig mamba2(const ModelConfig& model) const {
    Mamba2BlockConfig block;
    block.d_model = model.d_model;
    block.d_inner = integer("ssm.inner_size", kWidths);
    block.d_state = integer("ssm.state_size", kWidths);
    block.d_conv = integer("ssm.conv_kernel", kTaps);
    block.groups = integer("ssm.group_count", kWidths);
    block.heads = integer("ssm.time_step_rank", kWidths);
    if (block.d_inner % block.heads != 0 || block.heads % block.groups != 0) {
      fail("{}: {} ({}, the number of heads) must divide {} ({}), and {} ({}) the number of heads", file_.name,
           key("ssm.time_step_rank"), block.heads, key("ssm.inner_size"), block.d_inner, key("ssm.group_count"),
           block.groups);
    }
    block.bias = has("ssm_in.bias");
    block.conv_bias = has("ssm_conv1d.bias");
    block.gated_norm = has("ssm_norm.weight");
    block.norm_group = block.d_inner / block.groups;
    block.norm_eps = model.norm_eps;
    return block;
  }

 private:
  std::string key(const char* name) const { return fmt::format("{}.{}", prefix_, name); }

  std::int64_t integer(const char* name, IntRange range) const {
    return get_int(file_.values, key(name), required, file_.name, range);
  }

  /// Whether the first layer has a tensor; the loader sees to it that the others are alike.
  bool has(const char* name) const { return file_.tensors.contains(fmt::format("blk.0.{}", name)); }

  const GgufFile& file_;
  std::string prefix_;
};

ModelSpec read_spec(const GgufFile& file) {
  const std::string architecture = file.architecture();
  const SpecReader reader(file, architecture);
  ModelSpec spec;
  spec.naming = file_name;
  if (architecture == "mamba") {
    spec.config = reader.model();
    spec.make_block = [block = reader.mamba(spec.config)](std::int64_t i, WeightLoader& weights) {
      return make_mamba_block(block, mixer_prefix(i), weights);
    };
  } else if (architecture == "mamba2") {
    spec.config = reader.model();
    spec.make_block = [block = reader.mamba2(spec.config)](std::int64_t i, WeightLoader& weights) {
      return make_mamba2_block(block, mixer_prefix(i), weights);
    };
  } else if (architecture == "llama") {
    spec = read_gguf_llama(file, reader.model());
  } else {
    fail("{}: general.architecture is {}; molt runs mamba (Falcon-Mamba too), mamba2 and llama", file.name,
         quote(architecture));
  }
  spec.config.architecture = "gguf";
  return spec;
}

/// Quantized matrices are held in bfloat16: its rounding is finer than the quantization's steps. Other types as in
/// folders: nothing is lost.
DType suitable_dtype(const GgufFile& file) {
  std::int64_t exact = 0;
  std::int64_t rounded = 0;
  for (const auto& [name, tensor] : file.tensors) {
    const bool bf16 = !tensor.type->dtype || *tensor.type->dtype == DType::bf16;
    (bf16 ? rounded : exact) += element_count(tensor.shape);
  }
  return rounded > exact ? DType::bf16 : DType::f32;
}

ModelFiles open(const std::string& path) {
  GgufFile file = read_gguf(path);
  ModelFiles files;
  files.spec = read_spec(file);
  files.dtype = suitable_dtype(file);
  files.no_tokenizer = unreadable_tokenizer(file);
  if (files.no_tokenizer.empty()) files.tokenizer = path;
  files.weights = std::make_unique<GgufWeights>(std::move(file));
  return files;
}

const Registration<ModelFormat> registration{"gguf", {&is_gguf_file, &open}};

}  // namespace
}  // namespace molt
