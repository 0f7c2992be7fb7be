// Keys and tensors as llama.cpp's converter writes them. What differs from Hugging Face's: rows of attn_q and attn_k
// are in another order, so that the pairs which positions turn lie side by side; Llama 3.1's stretching of long waves
// is a tensor of factors, rope_freqs.weight.
#include "model/archs/gguf_llama.h"

#include <array>
#include <cmath>
#include <utility>

#include "base/fail.h"
#include "io/untrusted.h"
#include "model/archs/config_reading.h"
#include "model/archs/llama.h"
#include "model/archs/rope.h"

namespace molt {
namespace {

constexpr const char* kFactors = "rope_freqs.weight";

std::string matrix_name(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, const char*>, 7> kNames = {{{"q_proj", "attn_q"},
                                                                               {"k_proj", "attn_k"},
                                                                               {"v_proj", "attn_v"},
                                                                               {"o_proj", "attn_output"},
                                                                               {"gate_proj", "ffn_gate"},
                                                                               {"up_proj", "ffn_up"},
                                                                               {"down_proj", "ffn_down"}}};
  for (const auto& [canonical, here] : kNames) {
    if (canonical == name) return here;
  }
  return std::string(name);
}

std::string file_name(const std::string& canonical) {
  static const LlamaNames names{.embedding = "token_embd.weight",
                                .final_norm = "output_norm.weight",
                                .head = "output.weight",
                                .layer = "blk.",
                                .attention_norm = "attn_norm",
                                .mlp_norm = "ffn_norm",
                                .matrix = &matrix_name};
  return llama_name(names, canonical);
}

std::int64_t integer(const GgufFile& file, const char* key, std::optional<std::int64_t> fallback, IntRange range) {
  return get_int(file.values, fmt::format("llama.{}", key), fallback, file.name, range);
}

/// Divides each frequency by its factor, where the file has some.
void apply_factors(const GgufFile& file, std::vector<double>& frequencies) {
  const auto it = file.tensors.find(kFactors);
  if (it == file.tensors.end()) return;
  const GgufTensor& tensor = it->second;
  const auto count = static_cast<std::int64_t>(frequencies.size());
  if (tensor.type->dtype != DType::f32 || tensor.shape != Shape{count}) {
    fail("{}: {} is {} {}; a factor for each of {} pairs is wanted, as f32", file.name, kFactors, tensor.type->name,
         to_string(tensor.shape), count);
  }
  const Tensor factors = aligned_view(DType::f32, tensor.shape, tensor.data, file.owner);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float factor = factors.as<float>()[i];
    if (!(factor > 0 && std::isfinite(factor))) {
      fail("{}: {}[{}] is {}; it must be positive", file.name, kFactors, i, factor);
    }
    frequencies[i] /= static_cast<double>(factor);
  }
}

std::vector<double> frequencies_of(const GgufFile& file, std::int64_t head_dim) {
  const std::int64_t width = integer(file, "rope.dimension_count", head_dim, kWidths);
  if (width > head_dim || width % 2 != 0) {
    fail("{}: llama.rope.dimension_count is {}; heads have {} channels, and pairs of them are turned", file.name, width,
         head_dim);
  }
  const double base = get_double(file.values, "llama.rope.freq_base", 10000.0, file.name);
  if (!(base > 0 && std::isfinite(base))) fail("{}: llama.rope.freq_base is {}", file.name, base);
  std::vector<double> frequencies = rope_frequencies(base, width);
  const std::string type = get_string(file.values, "llama.rope.scaling.type", "none", file.name);
  if (type != "none" && type != "linear") {
    fail("{}: llama.rope.scaling.type is {}; molt knows none and linear", file.name, quote(type));
  }
  const double old_key = get_double(file.values, "llama.rope.scale_linear", 1.0, file.name);
  const double factor = get_double(file.values, "llama.rope.scaling.factor", old_key, file.name);
  if (!(factor > 0 && std::isfinite(factor))) fail("{}: llama.rope.scaling.factor is {}", file.name, factor);
  const bool scaled = type == "linear" || file.values.contains("llama.rope.scale_linear");
  for (double& frequency : frequencies) frequency /= scaled ? factor : 1.0;
  apply_factors(file, frequencies);
  return frequencies;
}

AttentionBlockConfig read_attention(const GgufFile& file, std::int64_t d_model) {
  AttentionBlockConfig attention;
  attention.d_model = d_model;
  attention.heads = integer(file, "attention.head_count", required, kWidths);
  attention.kv_heads = integer(file, "attention.head_count_kv", attention.heads, kWidths);
  const std::int64_t even = std::max<std::int64_t>(1, d_model / attention.heads);
  attention.head_dim = integer(file, "attention.key_length", even, kWidths);
  const std::int64_t value_dim = integer(file, "attention.value_length", attention.head_dim, kWidths);
  if (value_dim != attention.head_dim) {
    fail("{}: llama.attention.key_length is {}, value_length {}; molt runs heads whose keys and values are alike",
         file.name, attention.head_dim, value_dim);
  }
  check_heads(attention, file.name);
  attention.qkv_bias = file.tensors.contains("blk.0.attn_q.bias");
  attention.out_bias = file.tensors.contains("blk.0.attn_output.bias");
  attention.interleaved = true;
  attention.frequencies = frequencies_of(file, attention.head_dim);
  return attention;
}

}  // namespace

ModelSpec read_gguf_llama(const GgufFile& file, ModelConfig config) {
  if (integer(file, "expert_count", 0, {}) != 0) {
    fail("{}: llama.expert_count is not 0; molt runs no mixtures of experts", file.name);
  }
  config.n_layer *= kLlamaBlocks;
  config.max_tokens = integer(file, "context_length", 2048, {1, std::int64_t{1} << 40});
  const AttentionBlockConfig attention = read_attention(file, config.d_model);
  config.details = llama_details(attention);
  GatedMlpConfig mlp;
  mlp.d_model = config.d_model;
  mlp.d_inner = integer(file, "feed_forward_length", required, kWidths);
  mlp.bias = file.tensors.contains("blk.0.ffn_gate.bias");
  return {std::move(config), file_name, [attention, mlp](std::int64_t i, WeightLoader& weights) {
            weights.ignore(kFactors);  // read above
            return make_llama_block(attention, mlp, i, weights);
          }};
}

}  // namespace molt
