// --reduce as a user meets it: on every subcommand that reads a prompt, with its records, states, files and plugins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "molt/generate.h"
#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::Finished;
using testing_support::is_refused;
using testing_support::molt;
using testing_support::read_file;
using testing_support::succeeds;
using testing_support::TempFolder;
using Arguments = std::vector<std::string>;

const std::string kPrompt =
    "The history of the city begins with a small village near the river, where fishermen and farmers lived. In the "
    "twelfth century a wall was built around it, and a church, and later a market where people from the whole valley "
    "came to sell wool and corn. The old town still stands on the hill, and";

const Model& demo() {
  static const Model model = Model::load(demo_model());
  return model;
}

class ReduceOption : public testing::Test {
 protected:
  /// Every subcommand that reads a prompt, with what it needs to do so.
  std::map<std::string, Arguments> commands() const {
    return {{"generate", {"generate", demo_model(), "--prompt", kPrompt, "-n", "1"}},
            {"compare", {"compare", demo_model(), "-p", kPrompt, "--suffix", "8", "-n", "1", "--repeat", "1"}},
            {"logits", {"logits", demo_model(), "--text", kPrompt, "--out", logits_}},
            {"score", {"score", demo_model(), "--context", kPrompt, "--continuation", " so it goes"}},
            {"inspect", {"inspect", demo_model(), "--length", "64"}},
            {"bench", {"bench", demo_model(), "--prefill", "64", "--decode", "0", "--repeat", "1", "--no-ceilings"}},
            {"eval", {"eval", demo_model(), "--tasks", "lambada_openai", "--data", lambada_}}};
  }

  static Finished with(Arguments arguments, const Arguments& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return molt(std::move(arguments));
  }

  static json json_with(Arguments arguments, const Arguments& more) {
    arguments.emplace_back("--json");
    const Finished finished = with(std::move(arguments), more);
    EXPECT_TRUE(succeeds(finished));
    return json::parse(finished.out);
  }

  /// `molt generate models/demo ARGUMENTS --json`.
  static json generated(const Arguments& arguments) { return json_with({"generate", demo_model()}, arguments); }

  static std::vector<TokenId> ids_of(const json& result) { return result["ids"].get<std::vector<TokenId>>(); }

  TempFolder folder_;
  std::string logits_ = folder_ / "logits.safetensors";
  std::string lambada_ = folder_.write("lambada_test_openai.jsonl", json{{"text", kPrompt + " so"}}.dump() + "\n");
};

TEST_F(ReduceOption, StandsOnEverySubcommandThatReadsAPrompt) {
  for (const auto& [name, arguments] : commands()) {
    for (const std::string spec : {"truncate:flops=0.25", "utr", "none"}) {
      EXPECT_TRUE(succeeds(with(arguments, {"--reduce", spec}))) << name << " " << spec;
    }
    const std::string file = folder_.write("spec.json", R"({"method": "bypass", "flops": 0.2, "from": 1, "to": 14})");
    EXPECT_TRUE(succeeds(with(arguments, {"--reduce", file}))) << name;
    EXPECT_THAT(molt({name, "--help"}).out, HasSubstr("--reduce SPEC")) << name;
  }
}

TEST_F(ReduceOption, UnknownMethodsKeysAndValuesAreAnsweredWithThoseThatExist) {
  for (const auto& [name, arguments] : commands()) {
    SCOPED_TRACE(name);
    std::vector<std::string> methods{"unknown method 'utrr'", "did you mean 'utr'?"};
    for (const char* method : {"bypass", "contrib", "dense", "evit", "ltmp", "none", "oldest", "pumer", "random",
                               "stride", "surrogate", "truncate", "utr", "utr-released"}) {
      methods.emplace_back(method);
    }
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce", "utrr"}), methods));
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce", "utr:flopss=0.1"}),
                           {"'utr:flopss=0.1'", "unknown key 'flopss'", "did you mean 'flops'?", "sites", "metric",
                            "direction", "carry", "protect_last", "window", "scope"}));
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce", "utr:metric=l3"}), {"metric is 'l3'", "clip | l1 | l2"}));
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce", "utr:flops=1.5"}), {"flops is '1.5'", "between 0 and 1"}));
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce", "utr:sites=15"}), {"sites is '15'", "between 0 and 14"}));
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce", "bypass:flops=0.9"}), {"cuts at most 0.625", "not 0.9"}));
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce", "ltmp"}), {"molt tune --method ltmp"}));
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce", "surrogate"}), {"molt tune"}));
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce"}), {"--reduce"}));
  }
  EXPECT_FALSE(std::filesystem::exists(logits_)) << "refused before anything is written";
}

TEST_F(ReduceOption, OnlyWhereSeveralMakeSenseMayItStandTwice) {
  for (const auto& [name, arguments] : commands()) {
    const Finished finished = with(arguments, {"--reduce", "utr", "--reduce", "truncate"});
    if (name == "generate" || name == "logits" || name == "score") {
      EXPECT_TRUE(is_refused(finished, {"--reduce"})) << name;
    } else {
      EXPECT_TRUE(succeeds(finished)) << name;
      EXPECT_THAT(finished.out, testing::AllOf(HasSubstr("utr"), HasSubstr("truncate"))) << name;
    }
  }
}

TEST_F(ReduceOption, ErrorsOfFilesNameTheFile) {
  const std::string file = folder_ / "spec.json";
  for (const auto& [name, arguments] : commands()) {
    SCOPED_TRACE(name);
    const auto refused = [&, &arguments = arguments](const std::string& text, std::vector<std::string> parts) {
      folder_.write("spec.json", text);
      parts.push_back(file);
      return is_refused(with(arguments, {"--reduce", file}), parts);
    };
    EXPECT_TRUE(is_refused(with(arguments, {"--reduce", folder_ / "absent.json"}), {folder_ / "absent.json"}));
    EXPECT_TRUE(refused("", {}));
    EXPECT_TRUE(refused("{\"method\": \"utr\",\n \"flops\": }", {"line 2"}));
    EXPECT_TRUE(refused("[\"utr\"]", {"an object"}));
    EXPECT_TRUE(refused("{\"flops\": 0.3}", {"\"method\" is missing", "utr-released"}));
    EXPECT_TRUE(refused(R"({"method": "utr", "flop": 0.3})", {"unknown key 'flop'", "did you mean 'flops'?"}));
    EXPECT_TRUE(refused(R"({"method": "utr", "metric": "l3"})", {"metric is 'l3'", "clip | l1 | l2"}));
    EXPECT_TRUE(refused(R"({"method": "surrogate", "rules": [{"recent": 4, "tiers": [{"until": 0.5, "ops": "FW"}]}]})",
                        {"rules[0].tiers[0]", "2 letters for 16 blocks"}));
    EXPECT_TRUE(refused(R"({"method": "surrogate", "rules": [{"recent": 4, "tiers": []}], "maps": "absent.st"})",
                        {folder_ / "absent.st"}));
  }
}

TEST_F(ReduceOption, SpecsThatAreLongOrDeepAreNoTrouble) {
  const std::string deep = "surrogate:rules=" + std::string(50000, '[') + std::string(50000, ']');
  const Finished finished = with(commands().at("generate"), {"--reduce", deep});
  EXPECT_TRUE(is_refused(finished, {"reduction 'surrogate:rules=[[["}));
  EXPECT_LT(finished.err.size(), 1000U);
}

TEST_F(ReduceOption, JsonTellsWhatHappenedToEachToken) {
  const json result = generated({"-p", kPrompt, "-n", "2", "--reduce", "truncate:flops=0.25"});
  const json& reduction = result["reduction"];
  const std::size_t tokens = demo().tokenizer().encode(kPrompt).size();
  const std::size_t gone = (tokens + 3) / 4;
  EXPECT_EQ(reduction["tokens"], tokens);
  EXPECT_EQ(reduction["spec"]["method"], "truncate");
  EXPECT_EQ(reduction["spec"]["flops"], 0.25);
  EXPECT_NEAR(reduction["cut"].get<double>(), static_cast<double>(gone) / static_cast<double>(tokens), 1e-12);
  EXPECT_NEAR(reduction["flops"].get<double>() / reduction["dense_flops"].get<double>(),
              1 - reduction["cut"].get<double>(), 1e-12);
  EXPECT_EQ(reduction["full_by_layer"], json(std::vector<std::size_t>(16, tokens - gone)));
  EXPECT_EQ(reduction["writing_by_layer"], json(std::vector<std::size_t>(16, 0)));
  ASSERT_EQ(reduction["fates"].size(), gone);
  for (std::size_t i = 0; i < gone; ++i) {
    EXPECT_EQ(reduction["fates"][i], json({{"position", i + 1}, {"site", -1}, {"fate", "pruned"}}));
  }
  std::vector<std::size_t> left{0};
  for (std::size_t position = gone + 1; position < tokens; ++position) left.push_back(position);
  EXPECT_EQ(reduction["survivors"], json::object({{"-1", left}}));

  const json merged = generated({"-p", kPrompt, "-n", "1", "--reduce", "utr-released:flops=0.1"})["reduction"];
  ASSERT_FALSE(merged["fates"].empty());
  EXPECT_EQ(merged["fates"][0],
            json({{"position", 0}, {"site", 3}, {"fate", "merged"}, {"hidden_into", 1}, {"residual_into", 1}}));
  EXPECT_EQ(merged["survivors"].size(), 7U) << "one list a site";

  const json bypass = generated({"-p", kPrompt, "-n", "1", "--reduce", "bypass:flops=0.3,from=2,to=14"})["reduction"];
  EXPECT_EQ(bypass["fates"][0], json({{"position", 1}, {"site", 1}, {"fate", "bypass"}, {"return_at", 14}}));
  EXPECT_EQ(bypass["full_by_layer"][14], tokens);

  EXPECT_FALSE(generated({"-p", kPrompt, "-n", "1"}).contains("reduction"));
}

TEST_F(ReduceOption, ReducesAsTheLibraryDoes) {
  for (const std::string spec : {"utr:flops=0.3", "bypass:flops=0.4", "pumer:window=32"}) {
    const Reduction reduction = Reduction::parse(demo(), spec);
    Session session(demo());
    State state(demo());
    GenerateOptions options;
    options.max_tokens = 12;
    options.reduction = &reduction;
    const Generation wanted = generate(session, state, demo().tokenizer().encode(kPrompt), options);
    const json result = generated({"-p", kPrompt, "-n", "12", "--reduce", spec});
    EXPECT_EQ(ids_of(result), wanted.ids) << spec;
    EXPECT_EQ(result["reduction"]["cut"].get<double>(), wanted.reduction.cut()) << spec;
  }
}

TEST_F(ReduceOption, AReducedTextGoesOnFromItsSavedState) {
  const std::string path = folder_ / "text.state";
  const auto state = [&] { return State::load(path, demo()).state; };
  ASSERT_TRUE(succeeds(molt({"generate", demo_model(), "-p", kPrompt, "-n", "30", "--save-state", path})));
  const State dense = state();
  for (const std::string spec :
       {"utr:flops=0.3", "utr-released:flops=0.3", "truncate:flops=0.5", "bypass:flops=0.4", "contrib:flops=0.3"}) {
    const json whole = generated({"-p", kPrompt, "-n", "30", "--reduce", spec, "--save-state", path});
    const State wanted = state();
    EXPECT_FALSE(wanted == dense) << spec;
    for (const int first : {1, 11}) {
      const json begun =
          generated({"-p", kPrompt, "-n", std::to_string(first), "--reduce", spec, "--save-state", path});
      const json rest = generated({"--load-state", path, "-n", std::to_string(30 - first), "--save-state", path});
      std::vector<TokenId> ids = ids_of(begun);
      const std::vector<TokenId> more = ids_of(rest);
      ids.insert(ids.end(), more.begin(), more.end());
      EXPECT_EQ(ids, ids_of(whole)) << spec << ", stopped after " << first;
      EXPECT_TRUE(state() == wanted) << spec << ", stopped after " << first;
    }
  }
}

// With nothing to generate the prompt's last token is left for whoever goes on: reduced is what stands before it.
TEST_F(ReduceOption, APromptThatIsOnlyReadIsReducedUpToItsLastToken) {
  const std::string state = folder_ / "text.state";
  const std::string spec = "utr:flops=0.3";
  const json read = generated({"-p", kPrompt, "-n", "0", "--reduce", spec, "--save-state", state});
  const std::vector<TokenId> ids = demo().tokenizer().encode(kPrompt);
  EXPECT_EQ(read["reduction"]["tokens"], ids.size() - 1);
  const Reduction reduction = Reduction::parse(demo(), spec);
  Session session(demo());
  State wanted(demo());
  session.feed(wanted, std::span(ids).first(ids.size() - 1), {.reduction = &reduction});
  GenerateOptions options;
  options.max_tokens = 20;
  EXPECT_EQ(ids_of(generated({"--load-state", state, "-n", "20"})),
            generate(session, wanted, std::span(ids).last(1), options).ids);
}

TEST_F(ReduceOption, ChatTurnsExtendAReducedState) {
  const std::string state = folder_ / "chat.state";
  const std::string second = " Then the old man said to the boy that they would go to the sea in the morning, and he";
  const std::string third = " But when the morning came, the boy had gone away with the boat, and nobody knew where";
  const auto turn = [&](const std::string& prompt, const std::string& spec, bool first) {
    Arguments arguments{"-p", prompt, "-n", "9", "--reduce", spec, "--save-state", state};
    if (!first) arguments.insert(arguments.end(), {"--load-state", state});
    return generated(arguments);
  };
  // By the library: each turn's prompt begins with the last token of the turn before, which the state has yet to see.
  Session session(demo());
  State wanted(demo());
  std::vector<TokenId> unseen;
  bool first = true;
  for (const auto& [prompt, spec] : std::vector<std::pair<std::string, std::string>>{
           {kPrompt, "bypass:flops=0.3"}, {second, "utr:flops=0.3"}, {third, "truncate:flops=0.4"}}) {
    const json told = turn(prompt, spec, first);
    const std::vector<TokenId> more = demo().tokenizer().encode(prompt);
    unseen.insert(unseen.end(), more.begin(), more.end());
    const Reduction reduction = Reduction::parse(demo(), spec);
    GenerateOptions options;
    options.max_tokens = 9;
    options.reduction = &reduction;
    const Generation answer = generate(session, wanted, unseen, options);
    EXPECT_EQ(ids_of(told), answer.ids) << spec;
    EXPECT_EQ(told["reduction"]["tokens"], unseen.size()) << "of this turn";
    EXPECT_GT(told["reduction"]["cut"].get<double>(), 0.15) << spec;
    EXPECT_EQ(told["prompt_ids"].get<std::vector<TokenId>>(), unseen);
    unseen.assign(answer.ids.end() - 1, answer.ids.end());
    first = false;
  }
  const State saved = State::load(state, demo()).state;
  EXPECT_TRUE(saved == wanted);
}

TEST_F(ReduceOption, LogitsWriteARecord) {
  const std::string record = folder_ / "record.json";
  const std::string ids = folder_.write("ids.txt", "5 6 7 8 9 10 11 12 13 14 15 16\n17 18 19\n20 21 22 23 24 25 26\n");
  ASSERT_TRUE(succeeds(molt({"logits", demo_model(), "--ids-file", ids, "--out", logits_, "--reduce",
                             "stride:flops=0.2,sites=2+5", "--record", record})));
  const json result = json::parse(read_file(record));
  EXPECT_EQ(result["spec"]["method"], "stride");
  ASSERT_EQ(result["sequences"].size(), 3U);
  const Reduction reduction = Reduction::parse(demo(), "stride:flops=0.2,sites=2+5");
  Session session(demo());
  const SafetensorsFile file = read_safetensors(logits_);
  const Tensor& logits = file.tensors.at("logits");
  ASSERT_EQ(logits.shape(), (Shape{3, demo().vocab_size()}));
  const std::vector<std::pair<TokenId, std::size_t>> rows{{5, 12}, {17, 3}, {20, 7}};
  for (std::size_t s = 0; s < rows.size(); ++s) {
    std::vector<TokenId> tokens(rows[s].second);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = rows[s].first + static_cast<TokenId>(i);
    State state(demo());
    ReductionRecord wanted;
    const auto expected = session.feed(state, tokens, {.reduction = &reduction, .record = &wanted});
    const json& told = result["sequences"][s];
    EXPECT_EQ(told["tokens"], tokens.size());
    EXPECT_EQ(told["fates"].size(), wanted.fates.size());
    for (const auto& [site, positions] : told["survivors"].items()) {
      EXPECT_EQ(positions.get<std::vector<std::int64_t>>(), wanted.survivors(std::stoll(site)));
    }
    const float* row = logits.as<float>() + static_cast<std::int64_t>(s) * demo().vocab_size();
    float largest = 0;
    for (const float value : expected) largest = std::max(largest, std::abs(value));
    for (std::size_t v = 0; v < expected.size(); ++v) ASSERT_NEAR(row[v], expected[v], 1e-4 * largest) << s;
  }
  EXPECT_EQ(result["sequences"][0]["survivors"].size(), 2U);
}

TEST_F(ReduceOption, LogitsRefuseWhatCannotBe) {
  const Arguments logits = commands().at("logits");
  EXPECT_TRUE(is_refused(with(logits, {"--reduce", "utr", "--all"}), {"--all", "--reduce"}));
  EXPECT_TRUE(is_refused(with(logits, {"--record", folder_ / "r.json"}), {"--record", "--reduce"}));
  EXPECT_TRUE(is_refused(with(logits, {"--reduce", "utr", "--record", folder_ / "no/r.json"}), {"no/r.json"}));
  EXPECT_FALSE(std::filesystem::exists(logits_));
}

TEST_F(ReduceOption, InspectShowsTokensByLayer) {
  const Finished finished = molt(
      {"inspect", demo_model(), "--reduce", "truncate:flops=0.5", "--reduce", "bypass:flops=0.3", "--length", "100"});
  ASSERT_TRUE(succeeds(finished));
  EXPECT_THAT(finished.out, HasSubstr("of 100 tokens, 50.0% of the layers' FLOPs cut"));
  EXPECT_THAT(finished.out, HasSubstr("of 100 tokens, 30.0% of the layers' FLOPs cut"));
  EXPECT_THAT(finished.out, HasSubstr("   15       50  "));
  EXPECT_THAT(finished.out, HasSubstr("    3       52  "));
  const json result =
      json_with({"inspect", demo_model(), "--reduce", "truncate:flops=0.5", "--reduce", "utr", "--length", "100"}, {});
  ASSERT_EQ(result["reductions"].size(), 2U);
  EXPECT_EQ(result["reductions"][0]["full_by_layer"], json(std::vector<int>(16, 50)));
  EXPECT_EQ(result["reductions"][1]["spec"]["sites"], json({3, 4, 5, 6, 8, 9, 10}));
  EXPECT_EQ(result["reductions"][1]["tokens"], 100);
  EXPECT_FALSE(json_with({"inspect", demo_model()}, {}).contains("reductions"));
  EXPECT_TRUE(is_refused(molt({"inspect", demo_model(), "--reduce", "utr", "--length", "0"}), {"--length"}));
}

TEST_F(ReduceOption, InspectListsTheMethods) {
  const Finished finished = molt({"inspect", "--methods"});
  ASSERT_TRUE(succeeds(finished));
  EXPECT_EQ(finished.out, describe_reductions());
}

TEST_F(ReduceOption, BenchSetsReductionsBesideTheDenseModel) {
  const json result = json_with({"bench", demo_model(), "--prefill", "200", "--decode", "0", "--repeat", "1"},
                                {"--no-ceilings", "--reduce", "truncate:flops=0.5", "--reduce", "utr"});
  ASSERT_EQ(result["results"].size(), 3U);
  EXPECT_EQ(result["results"][0]["reduce"], "");
  EXPECT_EQ(result["results"][0]["cut"], 0);
  EXPECT_EQ(result["results"][1]["reduce"], "truncate:flops=0.5");
  EXPECT_NEAR(result["results"][1]["cut"].get<double>(), 0.5, 1e-9);
  EXPECT_NEAR(result["results"][2]["cut"].get<double>(), 0.3, 0.02);
  for (const json& row : result["results"]) {
    EXPECT_GT(row["seconds"].get<double>(), 0);
    EXPECT_LT(row["reducing_seconds"].get<double>(), row["seconds"].get<double>());
  }
  const Finished table = with(commands().at("bench"), {"--reduce", "truncate:flops=0.5"});
  ASSERT_TRUE(succeeds(table));
  EXPECT_THAT(table.out, HasSubstr("truncate:flops=0.5: 50.0% of FLOPs cut"));
}

TEST_F(ReduceOption, PluginsThatAreNoneAreNamed) {
  const std::string text = folder_.write("text.so", "no library at all");
  for (const auto& [name, arguments] : commands()) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(is_refused(with(arguments, {"--plugin", folder_ / "absent.so"}), {"plugin", folder_ / "absent.so"}));
    EXPECT_TRUE(is_refused(with(arguments, {"--plugin", text, "--reduce", "utr"}), {"plugin", text}));
    EXPECT_TRUE(is_refused(with(arguments, {"--plugin", "no-folder.so"}), {"plugin no-folder.so"}));
  }
}

}  // namespace
}  // namespace molt
