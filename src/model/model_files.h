// What a path to a model leads to: a configuration, weights and a tokenizer, whatever the format.
//
// Folders, and single files of weights beside a config.json, are what open_model() knows by itself. A format that keeps
// all of it in one file is a file in archs/ that registers itself:
//
//   namespace { const Registration<ModelFormat> registration{"gguf", {&is_gguf_file, &open}}; }
#pragma once

#include <memory>
#include <string>

#include "model/architecture.h"
#include "model/weights.h"

namespace molt {

struct ModelFiles {
  ModelSpec spec;
  std::unique_ptr<WeightSource> weights;
  DType dtype = DType::f32;  // f32 or bf16: what suits the matrices as they are stored
  std::string tokenizer;     // what Tokenizer::load() reads, or "" when there is none
  std::string no_tokenizer;  // why there is none, to follow the model's name in a message
};

struct ModelFormat {
  /// Whether the file at `path` is of this format. Throws nothing.
  bool (*matches)(const std::string& path);

  /// Opens it. Throws Error for what is missing, broken or not supported.
  ModelFiles (*open)(const std::string& path);
};

/// Opens the model at `path`. Throws Error.
ModelFiles open_model(const std::string& path);

}  // namespace molt
