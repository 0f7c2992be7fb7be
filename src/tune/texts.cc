#include "tune/texts.h"

#include <algorithm>
#include <string_view>

#include "base/fail.h"

namespace molt {
namespace {

constexpr std::string_view kSeparator = "<|endoftext|>";

std::vector<TokenId> encode(const Tokenizer& tokenizer, TokenId bos, std::int64_t vocab_size, std::string_view document,
                            std::int64_t line) {
  std::vector<TokenId> ids{bos};
  try {
    const std::vector<TokenId> own = tokenizer.encode(document);
    ids.insert(ids.end(), own.begin(), own.end());
  } catch (const Error& error) {
    fail("the calibration text's document that begins in line {}: {}", line, error.what());
  }
  const TokenId most = *std::max_element(ids.begin(), ids.end());
  if (most >= vocab_size) {
    fail(
        "the calibration text's document that begins in line {}: token {} lies outside of the model's vocabulary of "
        "{}: is this the model's own tokenizer?",
        line, most, vocab_size);
  }
  return ids;
}

}  // namespace

Documents encode_documents(const Model& model, const std::string& text) {
  return encode_documents(model.tokenizer(), model.bos(), model.vocab_size(), text);
}

Documents encode_documents(const Tokenizer& tokenizer, TokenId bos, std::int64_t vocab_size, const std::string& text) {
  Documents documents;
  std::int64_t line = 1;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(kSeparator, begin), text.size());
    const std::string_view document = std::string_view(text).substr(begin, end - begin);
    if (document.find_first_not_of(" \t\r\n") != std::string_view::npos) {
      documents.push_back(encode(tokenizer, bos, vocab_size, document, line));
    }
    line += std::count(document.begin(), document.end(), '\n');
    begin = end + kSeparator.size();
  }
  return documents;
}

Texts split_text(const Model& model, const std::string& text) {
  Texts texts;
  Documents* const uses[] = {&texts.maps, &texts.search, &texts.maps, &texts.search, &texts.apart};
  std::size_t number = 0;
  for (std::vector<TokenId>& document : encode_documents(model, text)) {
    uses[number++ % std::size(uses)]->push_back(std::move(document));
  }
  return texts;
}

}  // namespace molt
