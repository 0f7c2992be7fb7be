// A Hugging Face model folder as a GGUF file, in the dtypes of its weights, by the conventions of llama.cpp's
// converter.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/checkpoint.h"
#include "io/json_file.h"
#include "io/tokenizer/spec.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/temp_folder.h"

namespace molt::testing_support {

/// Adds a tokenizer.json's vocabulary. Ids that it leaves out, and those up to `rows`, become unused ones.
inline void add_tokenizer(GgufWriter& out, const std::string& tokenizer_json, const std::string& pre,
                          std::size_t rows) {
  const TokenizerSpec spec = read_tokenizer_spec(read_file(tokenizer_json), tokenizer_json);
  std::vector<std::string> tokens(rows);
  std::vector<std::int32_t> types(rows, 5);
  for (std::size_t i = 0; i < rows; ++i) tokens[i] = "[PAD" + std::to_string(i) + "]";
  const auto set = [&](TokenId id, const std::string& text, std::int32_t type) {
    tokens.at(static_cast<std::size_t>(id)) = text;
    types.at(static_cast<std::size_t>(id)) = type;
  };
  for (const auto& [text, id] : spec.vocab) set(id, text, 1);
  for (const AddedToken& token : spec.added) set(token.id, token.content, token.special ? 3 : 4);
  std::vector<std::string> merges;
  for (const auto& [left, right] : spec.merges) merges.push_back(left + " " + right);
  out.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", pre);
  out.strings("tokenizer.ggml.tokens", tokens).i32s("tokenizer.ggml.token_type", types);
  out.strings("tokenizer.ggml.merges", merges);
  out.u32("tokenizer.ggml.bos_token_id", 0).u32("tokenizer.ggml.eos_token_id", 0);
}

/// The name of a tensor of a Hugging Face Mamba model in GGUF.
inline std::string gguf_name(std::string name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kParts = {
      {{"backbone.embeddings", "token_embd"},
       {"backbone.norm_f", "output_norm"},
       {"lm_head", "output"},
       {"backbone.layers.", "blk."},
       {".mixer.in_proj", ".ssm_in"},
       {".mixer.conv1d", ".ssm_conv1d"},
       {".mixer.x_proj", ".ssm_x"},
       {".mixer.dt_proj", ".ssm_dt"},
       {".mixer.dt_bias", ".ssm_dt.bias"},
       {".mixer.A_log", ".ssm_a"},
       {".mixer.D", ".ssm_d"},
       {".mixer.norm", ".ssm_norm"},
       {".mixer.out_proj", ".ssm_out"},
       {".norm.", ".attn_norm."}}};
  for (const auto& [from, to] : kParts) {
    if (const auto at = name.find(from); at != name.npos) name.replace(at, from.size(), to);
  }
  return name;
}

/// The bytes of the file. `eps` is the one epsilon of its norms; `pre` names the split of the tokenizer.json in the
/// folder, if there is one.
inline std::string gguf_of_folder(const std::string& folder, float eps = 1e-5F, const std::string& pre = "olmo") {
  const Json config = read_json_file(folder + "/config.json");
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const auto number = [&config](const char* key) { return config.at(key).get<std::uint32_t>(); };
  const bool second = config.at("model_type") == "mamba2";
  const std::string name = second ? "mamba2" : "mamba";
  const std::uint32_t inner = 2 * number("hidden_size");
  GgufWriter out;
  out.string("general.architecture", name).u32(name + ".embedding_length", number("hidden_size"));
  out.u32(name + ".block_count", number("num_hidden_layers")).u32(name + ".ssm.inner_size", inner);
  out.u32(name + ".ssm.state_size", number("state_size")).u32(name + ".ssm.conv_kernel", number("conv_kernel"));
  out.u32(name + ".ssm.time_step_rank", number(second ? "num_heads" : "time_step_rank"));
  if (second) out.u32(name + ".ssm.group_count", number("n_groups"));
  out.boolean(name + ".ssm.dt_b_c_rms", config.at("model_type") == "falcon_mamba");
  out.f32(name + ".attention.layer_norm_rms_epsilon", eps);
  const std::string tokenizer = folder + "/tokenizer.json";
  if (std::filesystem::exists(tokenizer)) add_tokenizer(out, tokenizer, pre, number("vocab_size"));
  for (const auto& [from, tensor] : checkpoint.tensors()) {
    const std::string to = gguf_name(from);
    Shape shape = tensor.shape();
    if (shape.size() == 3) shape = {shape[0], shape[2]};  // the convolution
    if (second && (to.ends_with("ssm_a") || to.ends_with("ssm_d"))) shape.push_back(1);
    if (to.ends_with("ssm_norm.weight")) shape = {number("n_groups"), inner / number("n_groups")};
    if (from.ends_with("A_log")) {
      const Tensor a = tensor.to_f32();
      for (std::int64_t i = 0; i < a.size(); ++i) a.as<float>()[i] = -std::exp(a.as<float>()[i]);
      out.f32_tensor(to, shape, a);
    } else if (tensor.dtype() == DType::bf16 && shape.size() == 2) {
      out.tensor(to, 30, shape,
                 {reinterpret_cast<const char*>(tensor.data()), static_cast<std::size_t>(tensor.bytes())});
    } else {
      out.f32_tensor(to, shape, tensor);
    }
  }
  return out.bytes();
}

}  // namespace molt::testing_support
