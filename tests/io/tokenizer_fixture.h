// Small tokenizers for tests: byte-level BPE over the 256 bytes (their ids are their values) and a few merges.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/tokenizer/byte_alphabet.h"
#include "molt/tokenizer.h"

namespace molt::testing_support {

/// A tokenizer.json whose merges are given as pairs of plain text, in order; their tokens have the ids from 256 on.
inline nlohmann::json small_tokenizer_json(const std::vector<std::pair<std::string, std::string>>& merges = {}) {
  using Json = nlohmann::json;
  const auto spell = [](const std::string& bytes) {
    std::string spelling;
    for (const char byte : bytes) spelling += spell_byte(static_cast<unsigned char>(byte));
    return spelling;
  };
  Json json = {{"normalizer", nullptr},
               {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
               {"post_processor", nullptr},
               {"decoder", {{"type", "ByteLevel"}}},
               {"added_tokens", Json::array()},
               {"model", {{"type", "BPE"}, {"vocab", Json::object()}, {"merges", Json::array()}}}};
  Json& model = json["model"];
  for (int byte = 0; byte < 256; ++byte) model["vocab"][spell_byte(static_cast<unsigned char>(byte))] = byte;
  for (const auto& [left, right] : merges) {
    const std::string merged = spell(left + right);
    if (!model["vocab"].contains(merged)) model["vocab"][merged] = model["vocab"].size();
    model["merges"].push_back(Json::array({spell(left), spell(right)}));
  }
  return json;
}

inline Tokenizer tokenizer_from(const nlohmann::json& json) {
  return Tokenizer::parse(json.dump(), "test.json");
}

}  // namespace molt::testing_support
