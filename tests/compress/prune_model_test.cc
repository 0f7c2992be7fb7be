// Pruned folders: what is written, that it is read back, that a run that was stopped goes on, and what is refused.
#include "compress/prune_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/random.h"
#include "compress/calibration_pass.h"
#include "compress/model_folder.h"
#include "compress/output_error.h"
#include "io/json_file.h"
#include "model/weight_sources.h"
#include "molt/session.h"
#include "molt/threads.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::fixture;
using testing_support::message_of;
using testing_support::read_file;
using testing_support::TempFolder;
using testing_support::write_file;

std::string utf8(int code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

/// A tokenizer that knows no merges: a text is its bytes. Letters and the space have ids below 30.
std::string byte_tokenizer() {
  Json vocab = Json::object();
  int unprintable = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    const bool letter = 'a' <= byte && byte <= 'z';
    vocab[utf8(printable ? byte : unprintable++)] = letter ? byte - 'a' + 1 : byte == ' ' ? 27 : 100 + byte;
  }
  const Json json = {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}},
                     {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
                     {"decoder", {{"type", "ByteLevel"}}}};
  return json.dump();
}

std::string random_text(std::size_t length) {
  Random random(1);
  std::string text;
  while (text.size() < length) text += random.next() % 6 == 0 ? ' ' : static_cast<char>('a' + random.next() % 26);
  return text;
}

bool same(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())) == 0;
}

class PruneModel : public testing::TestWithParam<std::string> {
 protected:
  PruneModel() { write_file(folder_ / "tokenizer.json", byte_tokenizer()); }

  virtual std::string source() const { return fixture("tiny/" + GetParam()); }
  std::string out(const std::string& name = "out") const { return folder_ / name; }

  PruneOptions options(const std::string& method = "mrp-sm") const {
    PruneOptions options;
    options.method = method;
    options.settings.sparsity = parse_pattern("2:4");
    options.text = random_text(2000);
    options.calibration = {.samples = 5, .length = 60, .seed = 1};
    options.tokenizer = folder_ / "tokenizer.json";
    return options;
  }

  static std::vector<std::string> names_of(const PruneReport& report) {
    std::vector<std::string> names;
    for (const PrunedMatrix& matrix : report.matrices) names.push_back(matrix.name);
    return names;
  }

  /// The file that holds the weights of a folder written as `name`.
  std::string weights_file(const std::string& name) const {
    return out(name) + "/" + fs::path(Checkpoint::open(source()).source()).filename().string();
  }

  TempFolder folder_;
};

TEST_P(PruneModel, WritesTheSameFilesWithWeightsRemoved) {
  const PruneReport report = prune_model(source(), out(), options());
  const Checkpoint before = Checkpoint::open(source());
  const Checkpoint after = Checkpoint::open(out());
  EXPECT_EQ(fs::path(before.source()).filename(), fs::path(after.source()).filename());
  ASSERT_EQ(before.tensors().size(), after.tensors().size());
  std::set<std::string> pruned;
  for (const PrunedMatrix& matrix : report.matrices) {
    pruned.insert(matrix.name);
    const MatrixXd weight = to_matrix(after.at(matrix.name));
    EXPECT_EQ((weight.array() == 0).count(), matrix.zeros) << matrix.name;
    EXPECT_EQ(matrix.zeros, matrix.weights() / 2) << matrix.name;
    EXPECT_GT(matrix.squared_error.value(), 0) << matrix.name;
    EXPECT_LT(*matrix.squared_error, matrix.squared_outputs.value()) << matrix.name;
  }
  const Json described = read_json_file(out() + "/pruning.json");
  const bool first = described.at("matrices").size() % 4 == 0 && GetParam().find("mamba2") == std::string::npos;
  EXPECT_EQ(report.matrices.size() % (first ? 4 : 2), 0U);
  for (const auto& [name, tensor] : before.tensors()) {
    EXPECT_EQ(after.at(name).dtype(), tensor.dtype());
    EXPECT_EQ(same(after.at(name), tensor), !pruned.contains(name)) << name;
    const bool linear = name.ends_with("proj.weight") || name.ends_with(".fc1.weight") || name.ends_with(".fc2.weight");
    EXPECT_EQ(pruned.contains(name), linear) << name;
  }
  EXPECT_EQ(read_file(out() + "/config.json"), read_file(source() + "/config.json"));
  EXPECT_FALSE(fs::exists(out() + ".part"));
  // It is a model.
  Model model = Model::load(out());
  Session session(model);
  State state(model);
  const std::vector<TokenId> ids = {1, 5, 9, 2};
  for (const float logit : session.feed(state, ids)) ASSERT_TRUE(std::isfinite(logit));
}

// Errors in the report are those of the stored weights, on inputs behind all that was pruned before.
TEST_P(PruneModel, CalibratesEachMatrixBehindThePrunedOnesBeforeIt) {
  const PruneOptions options = this->options();
  const PruneReport report = prune_model(source(), out(), options);
  const Checkpoint before = Checkpoint::open(source());
  const Checkpoint after = Checkpoint::open(out());
  const ModelSpec spec = spec_of(before);
  const CheckpointWeights weights(before);
  CalibrationPass pass(
      spec, weights, make_backend("cpu"),
      calibration_windows(source(), spec.config, options.tokenizer, options.text, options.calibration));
  std::size_t at = 0;
  while (pass.layer() < pass.layers()) {
    Replacements replaced;
    for (const std::string& name : pass.matrices()) {
      const InputMoments moments = pass.measure({name}, replaced).at(name);
      const PrunedMatrix& matrix = report.matrices.at(at++);
      EXPECT_EQ(matrix.name, name);
      EXPECT_DOUBLE_EQ(*matrix.squared_error, output_error(before.at(name), after.at(name), moments)) << name;
      EXPECT_DOUBLE_EQ(*matrix.squared_outputs, squared_outputs(before.at(name), moments)) << name;
      replaced.emplace(name, after.at(name));
    }
    pass.advance(replaced);
  }
  EXPECT_EQ(at, report.matrices.size());
}

struct Stop {};

TEST_P(PruneModel, GoesOnWhereARunWasStopped) {
  const PruneReport whole = prune_model(source(), out("whole"), options());
  PruneOptions stopped = options();
  std::int64_t calls = 0;
  stopped.progress = [&](std::int64_t done, std::int64_t total) {
    if (++calls > 1 && done * 2 > total) throw Stop();
  };
  EXPECT_THROW(prune_model(source(), out("parts"), stopped), Stop);
  EXPECT_TRUE(fs::exists(out("parts.part")));
  EXPECT_FALSE(fs::exists(out("parts")));

  PruneOptions other = options();
  other.settings.damping = 0.5;
  EXPECT_THAT(message_of([&] { prune_model(source(), out("parts"), other); }), HasSubstr("other settings"));
  other = options();
  other.text += " more";
  EXPECT_THAT(message_of([&] { prune_model(source(), out("parts"), other); }), HasSubstr("other settings"));

  const PruneReport rest = prune_model(source(), out("parts"), options());
  EXPECT_GE(rest.resumed_layers, 1);
  EXPECT_EQ(names_of(whole), names_of(rest));
  EXPECT_EQ(read_file(weights_file("whole")), read_file(weights_file("parts")));
  EXPECT_EQ(read_file(out("whole") + "/pruning.json"), read_file(out("parts") + "/pruning.json"));
  EXPECT_FALSE(fs::exists(out("parts.part")));
}

INSTANTIATE_TEST_SUITE_P(Tiny, PruneModel,
                         testing::Values("mamba1-tiny", "mamba2-tiny", "falcon-mamba-tiny", "mamba1-tiny-mamba_ssm",
                                         "mamba2-tiny-mamba_ssm", "llama-gqa", "llama-bias", "opt-tiny"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class PrunedFolder : public PruneModel {
 protected:
  std::string source() const override { return fixture("tiny/mamba2-tiny"); }
};

TEST_F(PrunedFolder, IsTheSameForAnyNumberOfThreads) {
  const int before = num_threads();
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    prune_model(source(), out(std::to_string(threads)), options("mrp-mm"));
  }
  set_num_threads(before);
  EXPECT_EQ(read_file(out("1") + "/model.safetensors"), read_file(out("3") + "/model.safetensors"));
}

TEST_F(PrunedFolder, IsDescribed) {
  PruneOptions options = this->options("wanda");
  options.settings.sparsity = {.share = 0.6};
  options.skip = {"layers.0."};
  prune_model(source(), out(), options);
  const Json json = read_json_file(out() + "/pruning.json");
  EXPECT_EQ(json.at("method"), "wanda");
  EXPECT_EQ(json.at("sparsity"), 0.6);
  EXPECT_EQ(json.at("calibration").at("seed"), 1);
  EXPECT_EQ(json.at("calibration").at("samples"), 5);
  EXPECT_EQ(json.at("calibration").at("text_bytes"), options.text.size());
  for (const Json& matrix : json.at("matrices")) {
    EXPECT_NEAR(matrix.at("sparsity").get<double>(), 0.6, 0.01);
    EXPECT_NEAR(matrix.at("relative_error").get<double>(),
                matrix.at("squared_error").get<double>() / matrix.at("squared_outputs").get<double>(), 1e-12);
  }
}

TEST_F(PrunedFolder, PrunesWhatIsNamed) {
  PruneOptions options = this->options("magnitude");
  options.text.clear();
  options.only = {"out_proj", "layers.?.mixer.in"};
  options.skip = {"layers.0."};
  const PruneReport report = prune_model(source(), out(), options);
  EXPECT_THAT(names_of(report), testing::Each(testing::Not(HasSubstr("layers.0."))));
  EXPECT_THAT(names_of(report), testing::Contains(HasSubstr("layers.1.mixer.in_proj")));
  for (const PrunedMatrix& matrix : report.matrices) EXPECT_FALSE(matrix.squared_error);

  options.only = {"q_proj"};
  EXPECT_THAT(message_of([&] { prune_model(source(), out("none"), options); }), HasSubstr("--only q_proj"));
  EXPECT_FALSE(fs::exists(out("none")) || fs::exists(out("none.part")));
}

TEST_F(PrunedFolder, PrunesWhatIsNamedOfATransformer) {
  PruneOptions options = this->options("wanda");
  options.only = {"self_attn.?_proj", "mlp"};
  options.skip = {"layers.0.mlp", "v_proj"};
  std::vector<std::string> expected;
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    for (const char* name : {"q", "k", "o"}) expected.push_back(layer + "self_attn." + name + "_proj.weight");
  }
  for (const char* name : {"gate", "up", "down"}) {
    expected.push_back("model.layers.1.mlp." + std::string(name) + "_proj.weight");
  }
  EXPECT_EQ(names_of(prune_model(fixture("tiny/llama-gqa"), out(), options)), expected);
}

TEST_F(PrunedFolder, RefusesWhatCannotBe) {
  PruneOptions options = this->options();
  options.text.clear();
  EXPECT_THAT(message_of([&] { prune_model(source(), out(), options); }), HasSubstr("needs calibration text"));
  options = this->options();
  options.tokenizer.clear();
  EXPECT_THAT(message_of([&] { prune_model(source(), out(), options); }), HasSubstr("no tokenizer.json"));
  options = this->options();
  options.calibration.length = 200;
  EXPECT_THAT(message_of([&] { prune_model(fixture("tiny/opt-tiny"), out("long"), options); }),
              HasSubstr("was made for texts of up to 128 tokens; calibration windows have 200"));
  options.calibration.samples = 1000;
  EXPECT_THAT(message_of([&] { prune_model(source(), out("few"), options); }), HasSubstr("are asked for"));
  fs::create_directory(out("taken"));
  EXPECT_THAT(message_of([&] { prune_model(source(), out("taken"), this->options()); }), HasSubstr("exists already"));
}

}  // namespace
}  // namespace molt
