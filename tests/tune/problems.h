// Small problems for the tests of tuning: models, texts of random tokens, probes, and maps fitted on them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "molt/model.h"
#include "reduction/core.h"
#include "reduction/surrogate.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"
#include "tune/map_fitter.h"
#include "tune/probes.h"

namespace molt::testing_support {

/// Of a test with a model for parameter.
inline std::string model_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

inline Model tiny_model(const std::string& name) {
  return Model::load(fixture("tiny/" + name), {.weights = WeightType::f32});
}

/// Documents of random tokens of the model's vocabulary.
inline Documents random_documents(const Model& model, std::size_t count, std::size_t length, std::uint64_t seed) {
  Random random(seed);
  Documents documents(count, std::vector<TokenId>(length));
  for (auto& document : documents) {
    for (TokenId& id : document) {
      id = static_cast<TokenId>(random.next() % static_cast<std::uint64_t>(model.vocab_size()));
    }
  }
  return documents;
}

/// Prompts of random tokens, of lengths about `length`, and `next` tokens behind each.
inline ProbeSet random_probes(const Model& model, std::size_t count, std::size_t length, std::size_t next,
                              std::uint64_t seed) {
  ProbeSet set{"random", {}};
  for (const auto& text : random_documents(model, count, length + next, seed)) {
    const std::size_t begin = set.probes.size() % 3;  // so lengths differ
    const auto middle = text.begin() + static_cast<std::ptrdiff_t>(length);
    set.probes.push_back({{text.begin() + static_cast<std::ptrdiff_t>(begin), middle}, {middle, text.end()}});
  }
  return set;
}

/// The repository's own documents, as one text.
inline std::string document_text() {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> texts;  // sorted
  for (const auto& entry : fs::recursive_directory_iterator(std::string(MOLT_SOURCE_DIR) + "/docs")) {
    if (entry.path().extension() == ".md") texts[entry.path().string()] = read_file(entry.path().string());
  }
  std::string all;
  for (const auto& [path, text] : texts) all += text + "\n\n";
  return all;
}

/// A fitter that has seen some text of random tokens.
inline std::unique_ptr<MapFitter> random_fitter(const Model& model, std::uint64_t seed) {
  auto fitter = std::make_unique<MapFitter>(*model.core(), 100);
  for (const auto& text : random_documents(model, 4, 64, seed)) fitter->add(text);
  return fitter;
}

/// The reduction that follows a schedule, its maps fitted as they are needed; an L writes every second head.
inline Reduction::Core surrogate(const Model& model, MapFitter& fitter, const SurrogateSchedule& schedule) {
  Reduction::Core core;
  core.method = "surrogate";
  core.reducer = make_surrogate(schedule, model.core()->config().n_layer, false, [&](const WriteMapKey& key) {
    std::vector<std::int64_t> heads;
    const std::int64_t step = key.letter == 'L' ? 2 : 1;
    for (std::int64_t h = 0; h < model.core()->block(key.to).heads(); h += step) heads.push_back(h);
    return WriteMaps::pack(fitter.fit(key, heads), key, *model.core(), "a test");
  });
  return core;
}

}  // namespace molt::testing_support
