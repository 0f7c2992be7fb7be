// Any bytes as config.json: an Error, or a description of a model whose figures are within reason. No weights are read.
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "io/json_file.h"
#include "model/architecture.h"
#include "molt/error.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const molt::ModelSpec& spec) {
  const molt::ModelConfig& config = spec.config;
  require(!config.architecture.empty());
  require(config.d_model > 0 && config.d_model <= 1 << 20);
  require(config.n_layer > 0 && config.n_layer <= 10000);
  require(config.vocab_size > 0 && config.vocab_size <= (1 << 24) + (1 << 16));
  require(config.n_tokens > 0 && config.n_tokens <= config.vocab_size);
  require(config.bos >= 0 && config.bos < config.vocab_size && config.eos >= 0 && config.eos < config.vocab_size);
  require(std::isfinite(config.norm_eps) && config.norm_eps >= 0);
  require(spec.make_block && spec.naming && !spec.naming("backbone.norm_f.weight").empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const bool untied_head : {false, true}) {
    try {
      check(molt::read_model_spec(molt::parse_json(text, "fuzz"), "fuzz", untied_head));
    } catch (const molt::Error&) {
    }
  }
  return 0;
}
