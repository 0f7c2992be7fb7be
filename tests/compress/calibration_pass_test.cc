// CalibrationPass: its moments against those of the inputs that the reference backend's products see in a forward pass.
#include "compress/calibration_pass.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/json_file.h"
#include "kernels/reference/reference_backend.h"
#include "model/kv_blocks.h"
#include "model/model.h"
#include "model/weight_sources.h"
#include "molt/error.h"
#include "molt/threads.h"
#include "tests/compress/problems.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_compress::Rows;
using testing_compress::second_moments;
using testing_support::fixture;

/// Keeps the inputs of every product, in the order of the products.
class Recorder final : public ReferenceBackend {
 public:
  void matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
              std::int64_t first_out) const override {
    Tensor copy = Tensor::uninitialized(DType::f32, {x.rows, x.cols});
    for (std::int64_t t = 0; t < x.rows; ++t) std::copy_n(x.row(t), x.cols, copy.matrix().row(t));
    inputs.push_back(copy);
    ReferenceBackend::matmul(x, w, bias, y, first_out);
  }

  mutable std::vector<Tensor> inputs;
};

/// A checkpoint's tensors, some replaced.
class Replaced final : public WeightSource {
 public:
  Replaced(const WeightSource& source, Replacements replaced) : source_(source), replaced_(std::move(replaced)) {}
  std::optional<Tensor> find(const std::string& name, const Shape& shape) const override {
    const auto it = replaced_.find(name);
    return it == replaced_.end() ? source_.find(name, shape) : std::optional(it->second);
  }
  bool has(const std::string& name) const override { return source_.has(name); }
  std::vector<std::string> names() const override { return source_.names(); }
  std::string description() const override { return source_.description(); }

 private:
  const WeightSource& source_;
  Replacements replaced_;
};

void expect_moments(const InputMoments& moments, const std::vector<Tensor>& inputs, const std::string& what) {
  Rows expected;
  std::int64_t rows = 0;
  for (const Tensor& x : inputs) {
    const Rows part = second_moments(x.matrix());
    if (expected.empty()) expected = Rows(part.size(), std::vector<double>(part.size(), 0.0));
    for (std::size_t i = 0; i < part.size(); ++i) {
      for (std::size_t j = 0; j < part.size(); ++j) expected[i][j] += part[i][j];
    }
    rows += x.shape()[0];
  }
  EXPECT_EQ(moments.rows, rows) << what;
  ASSERT_EQ(moments.width(), std::ssize(expected)) << what;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    for (std::size_t j = 0; j < expected.size(); ++j) {
      ASSERT_NEAR(moments.products()(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)), expected[i][j],
                  3e-5 * std::sqrt(expected[i][i] * expected[j][j]) + 1e-9)
          << what << " " << i << ", " << j;
    }
  }
}

class Calibration : public testing::TestWithParam<std::string> {
 protected:
  Calibration()
      : folder_(fixture("tiny/" + GetParam())), checkpoint_(Checkpoint::open(folder_)), weights_(checkpoint_) {
    Random random(5);
    for (const std::size_t length : {12, 33, 20}) {
      std::vector<TokenId>& window = windows_.emplace_back(length);
      for (TokenId& id : window) {
        id = static_cast<TokenId>(random.next() % static_cast<std::uint64_t>(spec().config.vocab_size));
      }
    }
  }

  ModelSpec spec() const {
    const std::string path = folder_ + "/config.json";
    return read_model_spec(read_json_file(path), path, checkpoint_.find("lm_head.weight") != nullptr);
  }

  CalibrationPass pass() const { return {spec(), weights_, make_backend("cpu"), windows_}; }

  /// The inputs of the products of the layers and the head, product by product, each of every window: computed by the
  /// model's own forward pass.
  std::vector<std::vector<Tensor>> recorded(const Replacements& replaced = {}) const {
    const auto recorder = std::make_shared<Recorder>();
    const ModelCore core(spec(), Replaced(weights_, replaced), recorder, DType::f32);
    std::vector<std::vector<Tensor>> products;
    for (const std::vector<TokenId>& window : windows_) {
      recorder->inputs.clear();
      Arena arena;
      const Tensor state = Tensor::zeros(DType::u8, {core.state_layout().bytes});
      std::byte* const states[] = {state.data()};
      const std::int64_t offsets[] = {0, std::ssize(window)};
      const std::int64_t seen[] = {0};
      KvBlocks blocks(core.state_layout().kv_block_bytes);
      blocks.reserve(std::ssize(window));
      const std::span<std::byte* const> kv[] = {blocks.blocks()};
      const Stream stream = core.forward({window, offsets, states, DType::f32, seen, kv}, arena);
      std::vector<std::int64_t> rows;
      for (std::int64_t t = 0; t < std::ssize(window); ++t) rows.push_back(t);
      core.head(stream, rows, arena, arena.matrix(std::ssize(rows), spec().config.vocab_size));
      products.resize(recorder->inputs.size());
      for (std::size_t i = 0; i < products.size(); ++i) products[i].push_back(recorder->inputs[i]);
    }
    return products;
  }

  Tensor halved(const std::string& name) const {
    Tensor tensor = checkpoint_.at(name).to_f32();
    for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.as<float>()[i] *= i % 3 == 0 ? 0.5F : 0.9F;
    return tensor;
  }

  std::string folder_;
  Checkpoint checkpoint_;
  CheckpointWeights weights_;
  std::vector<std::vector<TokenId>> windows_;
};

TEST_P(Calibration, MeasuresTheInputsOfTheDenseModel) {
  const auto expected = recorded();
  CalibrationPass pass = this->pass();
  std::size_t product = 0;
  while (pass.layer() < pass.layers()) {
    const std::vector<std::string> names = pass.matrices();
    const auto moments = pass.measure({names.begin(), names.end()}, {});
    for (const std::string& name : names) {
      EXPECT_NE(checkpoint_.find(name), nullptr) << name;
      expect_moments(moments.at(name), expected.at(product++), name);
    }
    pass.advance({});
  }
  expect_moments(pass.measure_head(), expected.at(product++), pass.head());
  EXPECT_NE(checkpoint_.find(pass.head()), nullptr);
  EXPECT_EQ(product, expected.size());
}

// Layer by layer and, within a layer, matrix by matrix: what lies before is replaced, and what comes behind sees it.
TEST_P(Calibration, MeasuresWhatReplacedMatricesPutOut) {
  CalibrationPass pass = this->pass();
  Replacements all;
  std::size_t product = 0;
  while (pass.layer() < pass.layers()) {
    Replacements replaced;
    for (const std::string& name : pass.matrices()) {
      const InputMoments moments = pass.measure({name}, replaced).at(name);
      expect_moments(moments, recorded(all).at(product++), name);
      replaced[name] = all[name] = halved(name);
    }
    pass.advance(replaced);
  }
  expect_moments(pass.measure_head(), recorded(all).at(product), pass.head());
}

TEST_P(Calibration, IsTheSameForAnyNumberOfThreads) {
  const int before = num_threads();
  std::vector<Tensor> results;
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    CalibrationPass pass = this->pass();
    while (pass.layer() < pass.layers()) pass.advance({});
    results.push_back(pass.measure_head().second);
  }
  set_num_threads(before);
  EXPECT_EQ(std::memcmp(results[0].data(), results[1].data(), static_cast<std::size_t>(results[0].bytes())), 0);
}

TEST_P(Calibration, NamesWhatTheSourceLacks) {
  const CalibrationPass pass = this->pass();
  const std::string name = pass.matrices().front();
  const Tensor wrong = Tensor::zeros(DType::f32, {3, 2});
  try {
    static_cast<void>(pass.measure({name}, {{name, wrong}}));
    FAIL() << "a matrix of the wrong shape was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Calibration,
                         testing::Values("mamba1-tiny", "mamba1-bias", "falcon-mamba-tiny", "mamba2-tiny",
                                         "mamba2-groups", "mamba2-tiny-mamba_ssm", "mamba1-tiny-mamba_ssm", "llama-gqa",
                                         "llama-bias", "opt-tiny"),
                         [](const testing::TestParamInfo<std::string>& tested) {
                           std::string name = tested.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace molt
