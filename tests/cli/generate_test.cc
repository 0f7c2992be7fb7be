// molt generate: what it prints is what the model says, however it is asked.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "io/safetensors.h"
#include "io/tokenizer/utf8.h"
#include "molt/generate.h"
#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using nlohmann::json;
using testing_support::CommandOptions;
using testing_support::demo_model;
using testing_support::Finished;
using testing_support::molt;
using testing_support::read_file;
using testing_support::shared;
using testing_support::succeeds;
using testing_support::TempFolder;

const std::string kPrompt = "The history of the city begins";

const Model& demo() {
  static const Model model = Model::load(demo_model());
  return model;
}

/// Runs `molt generate models/demo ARGUMENTS`.
Finished generate_with(std::vector<std::string> arguments, const CommandOptions& options = {}) {
  arguments.insert(arguments.begin(), {"generate", demo_model()});
  return molt(std::move(arguments), options);
}

/// The text alone: generate ends it with a line break.
std::string text_of(const std::vector<std::string>& arguments, const CommandOptions& options = {}) {
  const Finished f = generate_with(arguments, options);
  EXPECT_TRUE(succeeds(f));
  EXPECT_TRUE(f.out.ends_with('\n')) << f;
  return f.out.substr(0, f.out.size() - 1);
}

json json_of(std::vector<std::string> arguments, const CommandOptions& options = {}) {
  arguments.emplace_back("--json");
  const Finished f = generate_with(std::move(arguments), options);
  EXPECT_TRUE(succeeds(f));
  return json::parse(f.out);
}

/// What the library generates.
Generation expected(const std::string& prompt, std::int64_t max_tokens) {
  Session session(demo());
  State state(demo());
  std::vector<TokenId> ids = demo().tokenizer().encode(prompt);
  if (ids.empty()) ids.push_back(demo().bos());
  GenerateOptions options;
  options.max_tokens = max_tokens;
  return generate(session, state, ids, options);
}

TEST(Generate, PrintsTheGoldenGreedyContinuation) {
  const std::string path = shared("golden/mamba2-demo-11m.golden.safetensors");
  MOLT_NEEDS(path);
  const SafetensorsFile golden = read_safetensors(path);
  int checked = 0;
  for (int k = 0; k < 3; ++k) {
    const Tensor& tensor = golden.tensors.at("greedy_" + std::to_string(k));
    ASSERT_EQ(tensor.size(), 96 + 48);
    const auto* ids = tensor.as<std::int64_t>();
    const std::vector<TokenId> prompt(ids, ids + 96);
    const std::vector<TokenId> continuation(ids + 96, ids + 96 + 48);
    const std::string text = demo().tokenizer().decode(prompt);
    if (demo().tokenizer().encode(text) != prompt) continue;  // cut where the tokenizer would not cut
    const json result = json_of({"--prompt", text, "--max-tokens", "48", "--dtype", "f32"});
    EXPECT_EQ(result["ids"].get<std::vector<TokenId>>(), continuation) << "text " << k;
    EXPECT_EQ(result["text"], demo().tokenizer().decode(continuation));
    ++checked;
  }
  EXPECT_GT(checked, 0) << "no prompt of the golden file survives decoding and encoding";
}

TEST(Generate, AgreesWithTheLibraryWhereverThePromptComesFrom) {
  const Generation wanted = expected(kPrompt, 12);
  const TempFolder folder;
  const std::string file = folder.write("prompt.txt", kPrompt);
  const std::vector<std::string> n = {"-n", "12"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), n.begin(), n.end());
    return arguments;
  };
  EXPECT_EQ(text_of(with({"--prompt", kPrompt})), wanted.text);
  EXPECT_EQ(text_of(with({"--prompt-file", file})), wanted.text);
  EXPECT_EQ(text_of(with({"--prompt-file", "-"}), {.in = kPrompt}), wanted.text);
  EXPECT_EQ(text_of(with({"-"}), {.in = kPrompt}), wanted.text);
  EXPECT_EQ(text_of(n, {.in = kPrompt}), wanted.text) << "piped, with no word of it";
  EXPECT_EQ(text_of(with({"--prompt-file", "/dev/stdin"}), {.in = kPrompt}), wanted.text) << "a pipe as the file";
}

TEST(Generate, JsonIsOneObjectWithTextIdsAndTimings) {
  const Generation wanted = expected(kPrompt, 8);
  const json result = json_of({"--prompt", kPrompt, "--max-tokens", "8"});
  EXPECT_EQ(result["text"], wanted.text);
  EXPECT_EQ(result["ids"].get<std::vector<TokenId>>(), wanted.ids);
  EXPECT_EQ(result["prompt_ids"].get<std::vector<TokenId>>(), demo().tokenizer().encode(kPrompt));
  EXPECT_EQ(result["stop_reason"], "max_tokens");
  for (const char* key : {"prefill_seconds", "prefill_tokens_per_s", "decode_seconds", "decode_tokens_per_s"}) {
    ASSERT_TRUE(result["timings"][key].is_number()) << key;
    EXPECT_GT(result["timings"][key].get<double>(), 0) << key;
  }
}

TEST(Generate, MaxTokensIsTheMost) {
  EXPECT_EQ(text_of({"-p", kPrompt, "-n", "0"}), "");
  EXPECT_EQ(text_of({"-p", kPrompt, "-n", "1"}), expected(kPrompt, 1).text);
  EXPECT_EQ(json_of({"-p", kPrompt, "-n", "1"})["ids"].size(), 1U);
  EXPECT_EQ(json_of({"-p", kPrompt, "-n", "0"})["ids"].size(), 0U);
}

TEST(Generate, AnEmptyPromptBeginsWithTheBeginToken) {
  const TempFolder folder;
  const Generation wanted = expected("", 6);
  EXPECT_EQ(json_of({"-p", "", "-n", "1"})["prompt_ids"], json({demo().bos()}));
  EXPECT_EQ(text_of({"-p", "", "-n", "6"}), wanted.text);
  EXPECT_EQ(text_of({"--prompt-file", folder.write("empty", ""), "-n", "6"}), wanted.text);
  EXPECT_EQ(text_of({"-", "-n", "6"}), wanted.text);
  EXPECT_EQ(json_of({"-p", kPrompt, "--bos", "-n", "0"})["prompt_ids"][0], demo().bos());
}

TEST(Generate, APromptMayLookLikeAnOption) {
  EXPECT_EQ(text_of({"--prompt", "--json", "-n", "3"}), expected("--json", 3).text);
  EXPECT_EQ(text_of({"--prompt", "-5 degrees", "-n", "3"}), expected("-5 degrees", 3).text);
}

TEST(Generate, TheSeedDecidesTheText) {
  const auto drawn = [](const char* seed) { return text_of({"-p", kPrompt, "-n", "24", "--seed", seed}); };
  EXPECT_EQ(drawn("7"), drawn("7"));
  EXPECT_NE(drawn("7"), drawn("8"));
  EXPECT_NE(drawn("7"), expected(kPrompt, 24).text) << "a seed asks for chance";
}

TEST(Generate, OptionsThatLeaveOneTokenAreGreedy) {
  const std::string greedy = expected(kPrompt, 16).text;
  const auto with = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"-p", kPrompt, "-n", "16", "--temperature", "1.5", "--seed", "3"});
    return text_of(arguments);
  };
  EXPECT_EQ(with({"--top-k", "1"}), greedy);
  EXPECT_EQ(with({"--top-p", "0.000001"}), greedy);
  EXPECT_EQ(with({"--min-p", "1"}), greedy);
  EXPECT_NE(with({}), greedy);
  EXPECT_EQ(text_of({"-p", kPrompt, "-n", "16", "--temperature", "0", "--seed", "3"}), greedy);
}

TEST(Generate, ARepetitionPenaltyBringsOtherTokens) {
  const json plain = json_of({"-p", kPrompt, "-n", "48"});
  const json penalised = json_of({"-p", kPrompt, "-n", "48", "--repetition-penalty", "5"});
  const auto distinct = [](const json& result) {
    std::set<TokenId> ids;
    for (const json& id : result["ids"]) ids.insert(id.get<TokenId>());
    return ids.size();
  };
  EXPECT_GT(distinct(penalised), distinct(plain));
  EXPECT_EQ(json_of({"-p", kPrompt, "-n", "48", "--repetition-penalty", "1"})["ids"], plain["ids"]);
}

TEST(Generate, StopsBeforeAStopString) {
  const Generation wanted = expected(kPrompt, 24);
  // Across the border of two tokens: the end of one and the beginning of the next.
  const std::string before = demo().tokenizer().decode(std::span(wanted.ids).first(8));
  const std::string stop = wanted.text.substr(before.size() - 1, 3);
  const std::size_t at = wanted.text.find(stop);
  ASSERT_LT(at, wanted.text.size());
  const json result = json_of({"-p", kPrompt, "-n", "24", "--stop", stop});
  EXPECT_EQ(result["text"], wanted.text.substr(0, at));
  EXPECT_EQ(result["stop_reason"], "stop");
  EXPECT_LT(result["ids"].size(), 24U);
  EXPECT_EQ(text_of({"--stop", "never seen", "--stop", stop, "-p", kPrompt, "-n", "24"}), wanted.text.substr(0, at));
  EXPECT_EQ(text_of({"--stop", "never seen", "-p", kPrompt, "-n", "24"}), wanted.text);
  EXPECT_EQ(text_of({"--stop", "", "-p", kPrompt, "-n", "24"}), wanted.text);
}

TEST(Generate, StopTakesOneTextAndLeavesTheModelAlone) {
  const Finished f = molt({"generate", "--stop", "[a,b]", demo_model(), "-p", kPrompt, "-n", "4"});
  EXPECT_TRUE(succeeds(f));
  EXPECT_EQ(f.out, expected(kPrompt, 4).text + "\n");
}

TEST(Generate, GoesOnFromASavedStateAsIfItHadNeverStopped) {
  const TempFolder folder;
  const std::string state = folder / "text.state";
  const json whole = json_of({"-p", kPrompt, "-n", "20"});
  for (const int first : {0, 1, 9}) {
    const json begun = json_of({"-p", kPrompt, "-n", std::to_string(first), "--save-state", state});
    const json rest = json_of({"--load-state", state, "-n", std::to_string(20 - first)});
    std::vector<TokenId> ids = begun["ids"];
    ids.insert(ids.end(), rest["ids"].begin(), rest["ids"].end());
    EXPECT_EQ(ids, whole["ids"].get<std::vector<TokenId>>()) << "stopped after " << first;
    EXPECT_EQ(begun["text"].get<std::string>() + rest["text"].get<std::string>(), whole["text"]);
  }
}

TEST(Generate, GoesOnFromASavedStateWithAFurtherPrompt) {
  const TempFolder folder;
  const std::string state = folder / "text.state";
  for (const int first : {0, 5}) {
    const json begun = json_of({"-p", kPrompt, "-n", std::to_string(first), "--save-state", state});
    const json rest = json_of({"--load-state", state, "-p", " And then", "-n", "10"});
    std::vector<TokenId> text = demo().tokenizer().encode(kPrompt);
    const std::vector<TokenId> more = demo().tokenizer().encode(" And then");
    text.insert(text.end(), begun["ids"].begin(), begun["ids"].end());
    text.insert(text.end(), more.begin(), more.end());
    Session session(demo());
    State fresh(demo());
    GenerateOptions options;
    options.max_tokens = 10;
    EXPECT_EQ(rest["ids"].get<std::vector<TokenId>>(), generate(session, fresh, text, options).ids);
  }
}

TEST(Generate, TheRepetitionPenaltyKnowsWhatASavedTextHeld) {
  const TempFolder folder;
  const std::string state = folder / "text.state";
  const std::vector<std::string> penalty = {"--repetition-penalty", "3"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), penalty.begin(), penalty.end());
    return json_of(arguments);
  };
  const json whole = with({"-p", kPrompt, "-n", "20"});
  const json begun = with({"-p", kPrompt, "-n", "10", "--save-state", state});
  const json rest = with({"--load-state", state, "-n", "10"});
  EXPECT_EQ(begun["text"].get<std::string>() + rest["text"].get<std::string>(), whole["text"]);
}

TEST(Generate, StreamsTheSameTextInWholeCharacters) {
  // At a high temperature the tokens are wild: many are parts of characters.
  const std::vector<std::string> wild = {"-p", "\xE6\x97\xA5\xE6\x9C\xAC", "-n", "200", "-t", "4", "--seed", "1"};
  const std::string printed = text_of(wild);
  EXPECT_EQ(utf8::scan(printed).valid, printed.size());
  EXPECT_EQ(json_of(wild)["text"], printed);
}

TEST(Generate, EndsQuietlyWhenNobodyReadsOn) {
  const TempFolder folder;
  const std::string state = folder / "text.state";
  const Finished f =
      generate_with({"-p", kPrompt, "-n", "100000000", "--ignore-eos", "--save-state", state}, {.close_out_after = 1});
  EXPECT_TRUE(succeeds(f));
  EXPECT_EQ(f.err, "");
  EXPECT_TRUE(std::filesystem::exists(state)) << "what was asked for beside the text is done all the same";
}

TEST(Generate, EndsInGoodOrderOnAnInterrupt) {
  const TempFolder folder;
  const std::string state = folder / "text.state";
  const Finished f =
      generate_with({"-p", kPrompt, "-n", "100000000", "--ignore-eos", "--save-state", state}, {.interrupt_after = 20});
  EXPECT_EQ(f.code, 130) << f;
  EXPECT_TRUE(f.out.ends_with('\n')) << f;
  EXPECT_EQ(f.err, "");
  const std::string printed = f.out.substr(0, f.out.size() - 1);
  EXPECT_EQ(utf8::scan(printed).valid, printed.size());
  const State::Saved saved = State::load(state, demo());
  EXPECT_EQ(demo().tokenizer().decode(saved.ids), kPrompt + printed) << "the state is that of the printed text";
}

TEST(Generate, StatesInBfloat16GoOnInEitherPrecision) {
  const TempFolder folder;
  const std::string state = folder / "text.state";
  const std::string wide = folder / "wide.state";
  const auto begin = [](const std::string& type, const std::string& path) {
    return generate_with({"-p", kPrompt, "-n", "8", "--ignore-eos", "--state", type, "--save-state", path});
  };
  const Finished begun = begin("bf16", state);
  ASSERT_EQ(begun.code, 0) << begun;
  ASSERT_EQ(begin("f32", wide).code, 0);
  EXPECT_LT(std::filesystem::file_size(state), std::filesystem::file_size(wide) * 3 / 4);
  for (const std::string type : {"bf16", "f32"}) {
    const Finished again = generate_with({"-p", " and", "-n", "4", "--load-state", state, "--state", type});
    EXPECT_EQ(again.code, 0) << again;
  }
  const Finished refused = generate_with({"-p", kPrompt, "-n", "1", "--state", "f16"});
  EXPECT_EQ(refused.code, 2) << refused;
  EXPECT_NE(refused.err.find("--state"), std::string::npos) << refused;
}

TEST(Generate, SaysWhenStandardOutputIsFull) {
  const Finished f = generate_with({"-p", kPrompt, "-n", "4"}, {.out_path = "/dev/full"});
  EXPECT_EQ(f.code, 2) << f;
  EXPECT_NE(f.err.find("standard output"), std::string::npos) << f;
}

}  // namespace
}  // namespace molt
