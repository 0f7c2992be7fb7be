// molt tokenize: text to token ids and back.
#include <charconv>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/fail.h"
#include "command.h"
#include "molt/tokenizer.h"

namespace molt::cli {
namespace {

using Json = nlohmann::json;

struct Options {
  std::string model;
  std::string text;
  bool has_text = false;
  bool decode = false;
  bool json = false;
  bool json_input = false;
  bool skip_special = false;
};

Json parse_json(std::string_view line, const char* wanted) {
  try {
    return Json::parse(line);
  } catch (const Json::exception&) {
    fail("not valid JSON; {} is wanted", wanted);
  }
}

std::vector<TokenId> read_json_ids(std::string_view line) {
  const char* const wanted = "{\"ids\": [1, 2, 3]}";
  const Json object = parse_json(line, wanted);
  if (!object.is_object() || !object.contains("ids") || !object["ids"].is_array()) fail("{} is wanted", wanted);
  std::vector<TokenId> ids;
  for (const Json& id : object["ids"]) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > INT32_MAX) fail("{} is no token id", id.dump());
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

std::vector<TokenId> read_plain_ids(std::string_view line) {
  constexpr std::string_view kSeparators = " ,\t\r\n";
  std::vector<TokenId> ids;
  while (true) {
    line.remove_prefix(std::min(line.find_first_not_of(kSeparators), line.size()));
    if (line.empty()) return ids;
    const std::string_view word = line.substr(0, line.find_first_of(kSeparators));
    TokenId id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size() || id < 0) fail("\"{}\" is no token id", word);
    ids.push_back(id);
    line.remove_prefix(word.size());
  }
}

std::string encode(const Tokenizer& tokenizer, const std::string& input, const Options& options) {
  std::vector<TokenId> ids;
  if (options.json_input) {
    const Json text = parse_json(input, "a string such as \"one\\ntwo\"");
    if (!text.is_string()) fail("a JSON string is wanted, not {}", text.type_name());
    ids = tokenizer.encode(text.get_ref<const std::string&>());
  } else {
    ids = tokenizer.encode(input);
  }
  return options.json ? fmt::format("{{\"ids\": [{}]}}", fmt::join(ids, ", ")) : fmt::format("{}", fmt::join(ids, " "));
}

std::string decode(const Tokenizer& tokenizer, const std::string& input, const Options& options) {
  const std::string text =
      tokenizer.decode(options.json ? read_json_ids(input) : read_plain_ids(input), options.skip_special);
  return options.json ? fmt::format("{{\"text\": {}}}", Json(text).dump()) : text;
}

void run(const Options& options) {
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  const auto convert = options.decode ? &decode : &encode;
  if (options.has_text) {
    std::cout << convert(tokenizer, options.text, options) << '\n';
  } else {
    std::ios::sync_with_stdio(false);
    std::cin.tie(nullptr);
    std::string line;
    for (std::size_t number = 1; std::cout.good() && std::getline(std::cin, line); ++number) {
      try {
        std::cout << convert(tokenizer, line, options) << '\n';
      } catch (const Error& error) {
        std::cout.flush();
        fail("line {} of the input: {}", number, error.what());
      }
      if (std::cin.rdbuf()->in_avail() <= 0) std::cout.flush();  // whoever types or waits at a pipe sees the answer
    }
    if (std::cin.bad()) fail("cannot read standard input");
  }
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model, "A model's folder, a tokenizer.json, or a GGUF file")
      ->required()
      ->type_name("FOLDER|FILE");
  auto* text = app.add_option("--text", options->text, "The one input, instead of the lines of standard input")
                   ->type_name("TEXT");
  app.add_flag("--decode", options->decode, "From ids (separated by spaces or commas) to text");
  app.add_flag("--json", options->json,
               "Ids as lines {\"ids\": [...]}; with --decode these are read, and {\"text\": \"...\"} is printed");
  app.add_flag("--json-input", options->json_input, "Each input is a JSON string: for texts with line breaks")
      ->excludes("--decode");
  app.add_flag("--skip-special", options->skip_special, "Leave special tokens out of the decoded text")
      ->needs("--decode");
  app.footer(R"(Each line of input gives one line of output; the line break that ends it is no part of the text.
Special tokens that stand in the text are recognised; none is added.

Examples:
  molt tokenize models/demo --text 'Hello, world!'
  molt tokenize tokenizer.json < book.txt > ids.txt
  molt tokenize models/demo --decode --text '41 10684 13 1097 2'
  molt tokenize models/demo --text 'Hello' | molt tokenize models/demo --decode
  printf '"two\\nlines"\n' | molt tokenize models/demo --json-input --json

Exit codes: 0 done, 2 bad input (invalid UTF-8, an unknown id, a tokenizer that molt does not read).)");
  app.callback([options, text] {
    options->has_text = text->count() > 0;
    run(*options);
  });
}

const Registration<Command> registration{"tokenize", {"Turn text into token ids, and back", &setup}};

}  // namespace
}  // namespace molt::cli
