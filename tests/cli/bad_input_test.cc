// What users get wrong: each is an error that names what is at fault, with exit code 2 and nothing on standard output.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing_support::CommandOptions;
using testing_support::demo_model;
using testing_support::Finished;
using testing_support::fixture;
using testing_support::is_refused;
using testing_support::molt;
using testing_support::read_file;
using testing_support::succeeds;
using testing_support::TempFolder;

const std::string kTiny = fixture("tiny/mamba2-tiny");
const std::string kTokenizer = demo_model() + "/tokenizer.json";

/// A copy of a tiny model, to be damaged.
class DamagedModel : public testing::Test {
 protected:
  DamagedModel() {
    for (const char* file : {"config.json", "model.safetensors"}) fs::copy_file(kTiny + "/" + file, model_ / file);
  }

  Finished inspect() const { return molt({"inspect", model_.path()}, {.timeout = std::chrono::seconds(30)}); }

  void change_config(const std::function<void(json&)>& change) const {
    json config = json::parse(read_file(kTiny + "/config.json"));
    change(config);
    model_.write("config.json", config.dump());
  }

  void change_weights(const std::function<void(std::map<std::string, Tensor>&)>& change) const {
    std::map<std::string, Tensor> tensors = read_safetensors(kTiny + "/model.safetensors").tensors;
    change(tensors);
    write_safetensors(model_ / "model.safetensors", {tensors.begin(), tensors.end()});
  }

  TempFolder model_;
};

TEST_F(DamagedModel, IsFineAsLongAsItIsWhole) {
  EXPECT_TRUE(succeeds(inspect()));
}

TEST_F(DamagedModel, WithoutConfig) {
  fs::remove(model_ / "config.json");
  EXPECT_TRUE(is_refused(inspect(), {model_.path(), "config.json"}));
}

TEST_F(DamagedModel, WithAConfigThatIsNoObject) {
  for (const char* text : {"", "[]", "3", "null", "\"mamba2\"", "{", "{\"model_type\": \"mamba2\", ", "\xFF\xFE{}"}) {
    model_.write("config.json", text);
    EXPECT_TRUE(is_refused(inspect(), {"config.json"})) << text;
  }
}

TEST_F(DamagedModel, WithATruncatedConfig) {
  const std::string whole = read_file(kTiny + "/config.json");
  for (const std::size_t length : {std::size_t{1}, whole.size() / 2, whole.find_last_of('}')}) {
    model_.write("config.json", whole.substr(0, length));
    EXPECT_TRUE(is_refused(inspect(), {"config.json"})) << length;
  }
}

TEST_F(DamagedModel, WithAConfigThatIsAFolder) {
  fs::remove(model_ / "config.json");
  fs::create_directory(model_ / "config.json");
  EXPECT_TRUE(is_refused(inspect(), {"config.json"}));
}

TEST_F(DamagedModel, WithoutANeededKey) {
  for (const char* key : {"hidden_size", "num_hidden_layers", "vocab_size", "model_type"}) {
    change_config([&](json& config) { config.erase(key); });
    EXPECT_TRUE(is_refused(inspect(), {"config.json", key}));
  }
}

TEST_F(DamagedModel, WithKeysOfTheWrongTypeOrOutOfRange) {
  const std::vector<std::pair<const char*, json>> bad = {
      {"hidden_size", "64"},
      {"hidden_size", 64.5},
      {"hidden_size", -64},
      {"hidden_size", 0},
      {"hidden_size", 1e300},
      {"hidden_size", {64}},
      {"num_hidden_layers", -1},
      {"vocab_size", 1 << 30},
      {"state_size", 1 << 30},
      {"conv_kernel", 0},
      {"conv_kernel", 10000},
      {"expand", 0},
      {"num_heads", 0},
      {"n_groups", 3},
      {"head_dim", 7},
      {"eos_token_id", 97},
      {"eos_token_id", -1},
      {"layer_norm_epsilon", -1},
      {"layer_norm_epsilon", "NaN"},
      {"use_bias", "yes"},
      {"tie_word_embeddings", 1},
      {"hidden_act", "gelu"},
      {"hidden_act", 3},
      {"time_step_limit", {1, 0}},
      {"time_step_limit", {0}},
  };
  for (const auto& [key, value] : bad) {
    change_config([&, k = key, v = value](json& config) { config[k] = v; });
    EXPECT_TRUE(is_refused(inspect(), {"config.json", key})) << key << " " << value;
  }
}

// The largest figures that a configuration may hold, far beyond these weights: nothing of the kind may be allocated.
TEST_F(DamagedModel, WithAbsurdSizesTakesNoAbsurdMemory) {
  const std::vector<json> absurd = {
      {{"hidden_size", 1 << 20}, {"expand", 64}, {"num_heads", 1 << 20}, {"head_dim", 64}},
      {{"num_hidden_layers", 10000}},
      {{"state_size", 1 << 20}, {"n_groups", 4}},
      {{"vocab_size", 1 << 24}},
      {{"model_type", "mamba"}, {"state_size", 1 << 20}, {"intermediate_size", 1 << 20}},
      {{"model_type", "mamba"}, {"conv_kernel", 64}, {"intermediate_size", 1 << 20}},
      {{"model_type", "falcon_mamba"}, {"time_step_rank", 1 << 20}, {"num_hidden_layers", 10000}},
  };
  for (const json& sizes : absurd) {
    change_config([&](json& config) { config.update(sizes); });
    EXPECT_TRUE(is_refused(inspect(), {"do not fit the configuration"})) << sizes;
  }
}

TEST_F(DamagedModel, OfAnUnknownKind) {
  for (const char* type : {"gpt2", "gpt_neox", "jamba", ""}) {
    change_config([&](json& config) { config["model_type"] = type; });
    EXPECT_TRUE(is_refused(inspect(), {"config.json", "model_type", type, "mamba2", "falcon_mamba"}));
  }
}

TEST_F(DamagedModel, WithTruncatedWeights) {
  const std::string whole = read_file(kTiny + "/model.safetensors");
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{7}, std::size_t{100}, whole.size() / 2, whole.size() - 1}) {
    model_.write("model.safetensors", whole.substr(0, length));
    EXPECT_TRUE(is_refused(inspect(), {"model.safetensors"})) << length;
  }
}

TEST_F(DamagedModel, ListsEveryTensorThatDoesNotFitInOneError) {
  change_weights([](auto& tensors) {
    tensors.erase("backbone.layers.0.mixer.A_log");
    tensors.erase("backbone.norm_f.weight");
    tensors["backbone.layers.1.mixer.D"] = Tensor::zeros(DType::f32, {5});
    tensors["backbone.layers.2.norm.weight"] = Tensor::zeros(DType::i32, {64});
    tensors["backbone.layers.7.norm.weight"] = Tensor::zeros(DType::f32, {64});
  });
  EXPECT_TRUE(
      is_refused(inspect(), {"model.safetensors", "5 faults", "missing: backbone.layers.0.mixer.A_log [4]",
                             "missing: backbone.norm_f.weight", "backbone.layers.1.mixer.D is [5]",
                             "backbone.layers.2.norm.weight is i32", "unexpected: backbone.layers.7.norm.weight"}));
}

TEST_F(DamagedModel, WithWeightsThatAreNotNumbersSaysSoInsteadOfGenerating) {
  change_weights([](auto& tensors) {
    Tensor broken = tensors["backbone.norm_f.weight"].clone();
    std::fill_n(broken.template as<float>(), broken.size(), std::nanf(""));
    tensors["backbone.norm_f.weight"] = broken;
  });
  EXPECT_TRUE(is_refused(molt({"generate", model_.path(), "--tokenizer", kTokenizer, "-p", ""}), {"no finite number"}));
}

TEST_F(DamagedModel, WronglySharded) {
  const std::string weights = model_ / "model.safetensors";
  const auto index = [&](const json& weight_map) {
    model_.write("model.safetensors.index.json", json({{"weight_map", weight_map}}).dump());
    return inspect();
  };
  fs::rename(weights, model_ / "model-00001-of-00001.safetensors");
  EXPECT_TRUE(is_refused(inspect(), {"model-00001-of-00001.safetensors", "index"}));
  EXPECT_TRUE(
      is_refused(index({{"a", "model-00002-of-00002.safetensors"}}), {"model-00002-of-00002", "does not exist"}));
  EXPECT_TRUE(is_refused(index({{"a", "../model.safetensors"}}), {"plain file name"}));
  EXPECT_TRUE(is_refused(index({{"a", "model-00001-of-00001.safetensors"}}), {"index.json"}));
  EXPECT_TRUE(is_refused(index({{"a", 1}}), {"index.json"}));
  EXPECT_TRUE(is_refused(index("text"), {"weight_map"}));
}

TEST_F(DamagedModel, APickleThatCallsTheSystemIsNotRun) {
  fs::remove(model_ / "model.safetensors");
  const std::string mark = model_ / "mark";
  // Protocol 0: os.system("touch mark").
  model_.write("pytorch_model.bin", "cos\nsystem\n(S'touch " + mark + "'\ntR.");
  EXPECT_TRUE(is_refused(inspect(), {"pytorch_model.bin"}));
  EXPECT_FALSE(fs::exists(mark));
}

TEST_F(DamagedModel, WithAnEmptyTokenizerFolderOrFile) {
  const std::vector<std::string> broken = {"", "{}", "[]", "{\"model\": {}}", read_file(kTokenizer).substr(0, 5000)};
  for (const std::string& text : broken) {
    model_.write("tokenizer.json", text);
    EXPECT_TRUE(is_refused(molt({"generate", model_.path(), "-p", "a"}), {"tokenizer.json"})) << text.substr(0, 40);
  }
  fs::remove(model_ / "tokenizer.json");
  EXPECT_TRUE(is_refused(molt({"generate", model_.path(), "-p", "a"}), {"tokenizer.json", "--tokenizer"}));
  EXPECT_TRUE(is_refused(molt({"generate", model_.path(), "-p", "a", "--tokenizer", "/none.json"}), {"/none.json"}));
}

TEST_F(DamagedModel, WithATokenizerOfAnotherModel) {
  EXPECT_TRUE(is_refused(molt({"generate", model_.path(), "--tokenizer", kTokenizer, "-p", "Hello there"}),
                         {"vocabulary of 97", "tokenizer"}));
  EXPECT_TRUE(is_refused(
      molt({"logits", model_.path(), "--tokenizer", kTokenizer, "--text", "Hello there", "--out", model_ / "out"}),
      {"vocabulary of 97", "tokenizer"}));
}

TEST(BadModel, ThatIsNone) {
  const TempFolder folder;
  EXPECT_TRUE(is_refused(molt({"inspect", "/no/such/folder"}), {"/no/such/folder", "does not exist"}));
  EXPECT_TRUE(is_refused(molt({"inspect", folder.path()}), {folder.path(), "model.safetensors"}));
  const std::string text = folder.write("notes.txt", "not a model");
  EXPECT_TRUE(is_refused(molt({"inspect", text}), {text}));
  EXPECT_TRUE(is_refused(molt({"inspect", "/dev/null"}), {"/dev/null"}));
  EXPECT_TRUE(is_refused(molt({"inspect", std::string(5000, 'x')}), {"xxx"}));
  EXPECT_TRUE(is_refused(molt({"inspect"}), {"--shape"}));
  EXPECT_TRUE(is_refused(molt({"inspect", "--shape", "mamba-9000"}), {"mamba-9000", "mamba2-130m"}));
}

struct BadOption {
  std::vector<std::string> arguments;
  std::vector<std::string> message;
};

TEST(BadOptions, AreRefusedByName) {
  const std::vector<BadOption> bad = {
      {{"generate", kTiny, "-p", "a", "--no-such-option"}, {"--no-such-option"}},
      {{"generate", kTiny, "-p", "a", "--threads", "0"}, {"--threads", "0"}},
      {{"generate", kTiny, "-p", "a", "--threads", "many"}, {"--threads", "many"}},
      {{"generate", kTiny, "-p", "a", "--window", "0"}, {"--window", "0"}},
      {{"generate", kTiny, "-p", "a", "--temperature", "nan"}, {"temperature", "nan"}},
      {{"generate", kTiny, "-p", "a", "--temperature", "-1"}, {"temperature", "-1"}},
      {{"generate", kTiny, "-p", "a", "--temperature", "1e999"}, {"temperature", "inf"}},
      {{"generate", kTiny, "-p", "a", "--top-p", "2"}, {"top-p", "2"}},
      {{"generate", kTiny, "-p", "a", "--top-p", "0"}, {"top-p", "0"}},
      {{"generate", kTiny, "-p", "a", "--min-p", "-0.5"}, {"min-p", "-0.5"}},
      {{"generate", kTiny, "-p", "a", "--top-k", "-1"}, {"top-k", "-1"}},
      {{"generate", kTiny, "-p", "a", "--repetition-penalty", "0"}, {"repetition penalty", "0"}},
      {{"generate", kTiny, "-p", "a", "--max-tokens", "-1"}, {"--max-tokens", "-1"}},
      {{"generate", kTiny, "-p", "a", "--max-tokens", "99999999999999999999"}, {"--max-tokens"}},
      {{"generate", kTiny, "-p", "a", "--seed", "-1"}, {"--seed", "-1"}},
      {{"generate", kTiny, "-p", "a", "--isa", "nonsense"}, {"nonsense", "portable"}},
      {{"generate", kTiny, "-p", "a", "--backend", "nonsense"}, {"nonsense", "reference"}},
      {{"generate", kTiny, "-p", "a", "--dtype", "f8"}, {"--dtype", "f8"}},
      {{"generate", kTiny, "-p", "a", "--prompt-file", "b"}, {"--prompt"}},
      {{"generate", kTiny, "Once upon a time"}, {"Once upon a time", "--prompt"}},
      {{"generate", kTiny, "--prompt-file", "/no/such/file"}, {"/no/such/file"}},
      {{"generate", kTiny, "--prompt-file", ""}, {"cannot open"}},
      {{"generate", kTiny, "--prompt-file", "/tmp"}, {"/tmp", "directory"}},
      {{"generate"}, {"MODEL"}},
      {{}, {"subcommand"}},
      {{"logits", kTiny, "--ids", "1"}, {"--out"}},
      {{"logits", kTiny, "--out", "x"}, {"--ids"}},
      {{"bench", kTiny, "--batch", "0"}, {"--batch"}},
      {{"bench", kTiny, "--prefill", "-1"}, {"--prefill"}},
      {{"bench", kTiny, "--repeat", "0"}, {"--repeat"}},
      {{"bench", kTiny, "--shape", "mamba2-130m"}, {"--shape"}},
      {{"tokenize", kTokenizer, "--decode", "--text", "1 x"}, {"\"x\""}},
      {{"tokenize", kTokenizer, "--decode", "--text", "16384"}, {"16384"}},
      {{"tokenize", kTokenizer, "--decode", "--text", "-1"}, {"-1"}},
      {{"tokenize", kTokenizer, "--text", "\xC3("}, {"UTF-8"}},
      {{"tokenize", "/no/such/tokenizer.json", "--text", "a"}, {"/no/such/tokenizer.json"}},
  };
  for (const BadOption& option : bad) {
    EXPECT_TRUE(is_refused(molt(option.arguments), option.message)) << testing::PrintToString(option.arguments);
  }
}

TEST(BadPrompt, ThatIsNotUtf8) {
  const std::vector<std::string> start = {"generate", demo_model()};
  const auto with = [&](std::vector<std::string> arguments, const CommandOptions& options = {}) {
    arguments.insert(arguments.begin(), start.begin(), start.end());
    return molt(std::move(arguments), options);
  };
  EXPECT_TRUE(is_refused(with({"-p", "abc\xFF"}), {"--prompt", "UTF-8", "3"}));
  EXPECT_TRUE(is_refused(with({"-"}, {.in = "\xE6\x97"}), {"standard input", "UTF-8"}));
  EXPECT_TRUE(is_refused(with({"-p", "a", "--stop", "\xA9"}), {"stop", "UTF-8"}));
}

class BadIds : public testing::Test {
 protected:
  Finished run(const std::vector<std::string>& arguments) const {
    std::vector<std::string> all = {"logits", kTiny, "--out", out_};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return molt(all);
  }

  TempFolder folder_;
  std::string out_ = folder_ / "out";
};

TEST_F(BadIds, AreRefusedByValue) {
  const auto ids = [&](const std::string& text) { return run({"--ids=" + text}); };
  EXPECT_TRUE(is_refused(ids("1,-5"), {"-5"}));
  EXPECT_TRUE(is_refused(ids("1,97"), {"97", "position 1"}));
  EXPECT_TRUE(is_refused(ids("1,zwei"), {"zwei"}));
  EXPECT_TRUE(is_refused(ids("1,2.5"), {"2.5"}));
  EXPECT_TRUE(is_refused(ids("99999999999"), {"99999999999"}));
  EXPECT_TRUE(is_refused(ids(","), {"no token"}));
  EXPECT_EQ(folder_.count(), 0U) << "nothing is left behind";
}

TEST_F(BadIds, InAFileAreRefusedByPlace) {
  EXPECT_TRUE(is_refused(run({"--ids-file", folder_ / "none"}), {folder_ / "none"}));
  EXPECT_TRUE(is_refused(run({"--ids-file", folder_.write("ids.txt", "1 2\n3 vier\n")}), {"ids.txt:2", "vier"}));
  EXPECT_TRUE(is_refused(run({"--ids-file", folder_.write("empty.txt", "")}), {"no token"}));
  const std::string tensors = folder_ / "ids.safetensors";
  const auto with = [&](const std::string& name, const Tensor& tensor) {
    write_safetensors(tensors, {{name, tensor}});
    return run({"--ids-file", tensors});
  };
  EXPECT_TRUE(is_refused(with("ids", Tensor::zeros(DType::i64, {2, 3})), {tensors, "input_ids"}));
  EXPECT_TRUE(is_refused(with("input_ids", Tensor::zeros(DType::f32, {2, 3})), {tensors, "f32"}));
  EXPECT_TRUE(is_refused(with("input_ids", Tensor::zeros(DType::i64, {1, 2, 3})), {tensors, "[1, 2, 3]"}));
  EXPECT_TRUE(is_refused(with("input_ids", Tensor::zeros(DType::i64, {2, 0})), {"no token"}));
  Tensor large = Tensor::zeros(DType::i64, {1, 2});
  large.as<std::int64_t>()[1] = std::int64_t{1} << 40;
  EXPECT_TRUE(is_refused(with("input_ids", large), {tensors, "1099511627776"}));
}

TEST(BadOutput, LeavesTheOldFileAndNothingElse) {
  const TempFolder folder;
  const auto logits = [&](const std::string& out) { return molt({"logits", kTiny, "--ids", "1,2", "--out", out}); };
  EXPECT_TRUE(is_refused(logits("/dev/full"), {"/dev/full", "No space left"}));
  EXPECT_TRUE(is_refused(logits(folder.path()), {folder.path(), "directory"}));
  EXPECT_TRUE(is_refused(logits(folder / "none/out"), {folder / "none/out", "No such file"}));
  const std::string old = folder.write("old", "old");
  EXPECT_TRUE(is_refused(molt({"logits", kTiny, "--ids", "9999", "--out", old}), {"9999"}));
  EXPECT_EQ(read_file(old), "old");
  EXPECT_EQ(folder.count(), 1U);
  EXPECT_TRUE(succeeds(logits("/dev/null")));
}

TEST(BadOutput, OfStandardOutputIsAnError) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"inspect", kTiny}, {"inspect", kTiny, "--json"}, {"tokenize", kTokenizer, "--text", "a"}}) {
    const Finished f = molt(arguments, {.out_path = "/dev/full"});
    EXPECT_EQ(f.code, 2) << f;
    EXPECT_NE(f.err.find("standard output"), std::string::npos) << f;
  }
}

TEST(BadState, ThatCannotBeWritten) {
  const TempFolder folder;
  const auto save = [&](const std::string& path) {
    return molt({"generate", demo_model(), "-p", "Once", "-n", "2", "--save-state", path});
  };
  EXPECT_TRUE(is_refused(save(folder.path()), {folder.path(), "directory"})) << "before anything is generated";
  EXPECT_TRUE(is_refused(save(folder / "none/state"), {"none/state"}));
  const Finished full = save("/dev/full");  // only writing shows it: the text is there by then
  EXPECT_EQ(full.code, 2) << full;
  EXPECT_NE(full.err.find("/dev/full"), std::string::npos) << full;
  EXPECT_EQ(folder.count(), 0U);
}

TEST(BadState, ThatCannotBeReadOrBelongsToAnotherModel) {
  const TempFolder folder;
  const std::string state = folder / "state";
  ASSERT_TRUE(succeeds(molt({"generate", demo_model(), "-p", "Once", "-n", "2", "--save-state", state})));
  const auto load = [&](const std::string& model, const std::string& path) {
    return molt({"generate", model, "--tokenizer", kTokenizer, "--load-state", path});
  };
  EXPECT_TRUE(is_refused(load(kTiny, state), {state, "another model"}));
  const std::string whole = read_file(state);
  for (const std::size_t length : {std::size_t{0}, std::size_t{5}, whole.size() / 2, whole.size() - 1}) {
    EXPECT_TRUE(is_refused(load(demo_model(), folder.write("cut", whole.substr(0, length))), {"cut"})) << length;
  }
  EXPECT_TRUE(is_refused(load(demo_model(), demo_model() + "/model.safetensors"), {"not a state"}));
  EXPECT_TRUE(is_refused(load(demo_model(), "/no/such/state"), {"/no/such/state"}));
  EXPECT_TRUE(is_refused(load(demo_model(), ""), {"cannot open"}));
}

}  // namespace
}  // namespace molt
