#include "compress/calibration_text.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "base/fail.h"
#include "base/random.h"
#include "tune/texts.h"

namespace molt {

namespace fs = std::filesystem;

std::vector<std::vector<TokenId>> calibration_windows(const Model& model, const std::string& text,
                                                      const CalibrationText& options) {
  return calibration_windows(encode_documents(model, text), options);
}

std::vector<std::vector<TokenId>> calibration_windows(const std::string& folder, const ModelConfig& config,
                                                      const std::string& tokenizer, const std::string& text,
                                                      const CalibrationText& options) {
  const fs::path path = tokenizer.empty() ? fs::path(folder) / "tokenizer.json" : fs::path(tokenizer);
  std::error_code error;
  if (tokenizer.empty() && !fs::exists(path, error)) {
    fail("{}: has no tokenizer.json; name one with --tokenizer FILE (published Mamba models use GPT-NeoX's)", folder);
  }
  return calibration_windows(encode_documents(Tokenizer::load(path.string()), config.bos, config.vocab_size, text),
                             options);
}

std::vector<std::vector<TokenId>> calibration_windows(const Documents& documents, const CalibrationText& options) {
  if (options.samples < 1) fail("the calibration needs at least 1 window, not {}", options.samples);
  if (options.length < 2) fail("calibration windows must have at least 2 tokens, not {}", options.length);
  std::vector<std::vector<TokenId>> found;
  std::vector<TokenId> window;
  for (const std::vector<TokenId>& document : documents) {
    for (const TokenId id : document) {
      window.push_back(id);
      if (static_cast<std::int64_t>(window.size()) < options.length) continue;
      found.push_back(std::move(window));
      window.clear();
    }
  }
  const std::int64_t count = std::ssize(found);
  if (count < options.samples) {
    fail("the calibration text gives {} windows of {} tokens, {} are asked for: give more text, or ask for fewer",
         count, options.length, options.samples);
  }
  Random random(options.seed);
  for (std::int64_t i = 0; i < options.samples; ++i) {
    const auto other = i + static_cast<std::int64_t>(random.next() % static_cast<std::uint64_t>(count - i));
    std::swap(found[static_cast<std::size_t>(i)], found[static_cast<std::size_t>(other)]);
  }
  found.resize(static_cast<std::size_t>(options.samples));
  return found;
}

}  // namespace molt
