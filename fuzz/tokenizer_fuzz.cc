// Arbitrary bytes as a tokenizer.json: only molt::Error may come out. A file that is accepted must also work.
//
// Input: a tokenizer.json, a zero byte, and a text to encode. Where the JSON is an object without a vocabulary, one of
// all bytes is put in, so that short inputs get past it to the other parts.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/check.h"
#include "io/tokenizer/utf8.h"
#include "molt/error.h"
#include "tests/io/tokenizer_fixture.h"

namespace {

std::string with_vocabulary(std::string_view json) {
  auto parsed = nlohmann::json::parse(json, nullptr, false);
  if (!parsed.is_object()) return std::string(json);
  const auto base = molt::testing_support::small_tokenizer_json({{"a", "b"}, {" ", "a"}, {"ab", "ab"}});
  for (const auto& [key, value] : base.items()) {
    if (!parsed.contains(key)) parsed[key] = value;
  }
  if (auto& model = parsed["model"]; model.is_object()) {
    for (const auto& [key, value] : base["model"].items()) {
      if (!model.contains(key)) model[key] = value;
    }
  }
  return parsed.dump();
}

void use(const molt::Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text);
  const std::string whole = tokenizer.decode(ids);
  MOLT_CHECK(molt::utf8::scan(whole).valid == whole.size());
  molt::StreamDecoder stream(tokenizer);
  std::string joined;
  for (const auto id : ids) joined += stream.push(id);
  MOLT_CHECK(joined + stream.flush() == whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(input.find('\0'), input.size());
  const std::string_view text = input.substr(std::min(end + 1, input.size()));
  for (const bool complete : {false, true}) {
    try {
      const std::string json = complete ? with_vocabulary(input.substr(0, end)) : std::string(input.substr(0, end));
      const auto tokenizer = molt::Tokenizer::parse(json, "fuzz.json");
      use(tokenizer, "a ab  abab\n e\u0301 1234 <x>'s");
      use(tokenizer, text);
    } catch (const molt::Error&) {
    }
  }
  return 0;
}
