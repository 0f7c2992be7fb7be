#include "model_options.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/fail.h"
#include "kernels/cpu/select.h"
#include "molt/threads.h"

namespace molt::cli {

void ModelOptions::add_to(CLI::App& app) {
  app.add_option("MODEL", model,
                 "Model folder: config.json with model.safetensors (Hugging Face) or pytorch_model.bin (mamba_ssm); or "
                 "a GGUF file")
      ->type_name("FOLDER|FILE.gguf")
      ->required();
  app.add_option("--tokenizer", tokenizer, "A tokenizer.json (or GGUF file) to use instead of the model's own")
      ->type_name("FILE");
  add_run_options_to(app);
}

void ModelOptions::add_run_options_to(CLI::App& app) {
  app.add_option("--dtype", dtype,
                 "Weight matrices: f32, bf16, or auto (bf16 if the checkpoint is that or quantized, else f32); int8 "
                 "and int4 round them on "
                 "loading. What `molt quantize` wrote stays as it is")
      ->type_name("auto|f32|bf16|int8|int4")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8", "int4"}))
      ->capture_default_str();
  app.add_option("--state", state,
                 "SSM states between tokens: f32, or bf16, which takes half the memory (rounded at random, the same "
                 "way every time)")
      ->type_name("f32|bf16")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--threads", threads, "Threads to use (default: the cores available to this process)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  app.add_option("--backend", backend, "cpu; cuda: an NVIDIA GPU (in builds that have it); reference: slow and exact")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--isa", isa,
                 fmt::format("Force an instruction set; this machine has {} (default: the first)",
                             fmt::join(available_isas(), ", ")))
      ->type_name("NAME");
}

LoadOptions ModelOptions::prepare() const {
  if (threads > 0) set_num_threads(threads);
  if (!isa.empty()) use_isa(isa);
  LoadOptions options;
  options.weights = dtype == "f32"    ? WeightType::f32
                    : dtype == "bf16" ? WeightType::bf16
                    : dtype == "int8" ? WeightType::int8
                    : dtype == "int4" ? WeightType::int4
                                      : WeightType::automatic;
  options.states = state_type(state);
  options.backend = backend;
  options.tokenizer = tokenizer;
  return options;
}

Model ModelOptions::load() const {
  return Model::load(model, prepare());
}

std::string read_text(const std::string& path) {
  if (path == "-") {
    std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
    if (std::ferror(stdin) != 0) fail("cannot read standard input");
    return text;
  }
  // Read, not mapped: the path may name a pipe.
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) fail("{}: is a directory; name a file", path);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("{}: cannot open: {}", path.empty() ? "\"\"" : path, std::strerror(errno));
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) fail("{}: cannot read", path);
  return text;
}

std::string json_text(const nlohmann::json& value, int indent) {
  return value.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace molt::cli
