// quantize_calibrated(): which matrices it takes, and that each layer is calibrated behind the rounded ones before it.
#include "compress/calibrated.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "compress/calibration_pass.h"
#include "compress/gptq.h"
#include "compress/output_error.h"
#include "io/json_file.h"
#include "model/weight_sources.h"
#include "molt/error.h"
#include "tests/compress/problems.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

class Gptq final : public Quantizer {
 public:
  QuantizedMatrix quantize(const Tensor& weight, const QuantizedFormat& format,
                           const InputMoments* inputs) const override {
    return gptq(weight, format, *inputs);
  }
};

class Refuses final : public Quantizer {
 public:
  QuantizedMatrix quantize(const Tensor& /*weight*/, const QuantizedFormat& /*format*/,
                           const InputMoments* /*inputs*/) const override {
    throw Error("not this one");
  }
};

class Calibrated : public testing::TestWithParam<std::string> {
 protected:
  Calibrated() : checkpoint_(Checkpoint::open(testing_support::fixture("tiny/" + GetParam()))), weights_(checkpoint_) {
    Random random(5);
    for (int w = 0; w < 4; ++w) {
      std::vector<TokenId>& window = windows_.emplace_back(64);
      for (TokenId& id : window) {
        id = static_cast<TokenId>(random.next() % static_cast<std::uint64_t>(spec().config.vocab_size));
      }
    }
  }

  ModelSpec spec() const {
    const std::string path = checkpoint_.folder() + "/config.json";
    return read_model_spec(read_json_file(path), path, checkpoint_.find("lm_head.weight") != nullptr);
  }

  Checkpoint checkpoint_;
  CheckpointWeights weights_;
  std::vector<std::vector<TokenId>> windows_;
  QuantizationPlan plan_ = {{4, 32}, {8, 0}};
};

bool same(const QuantizedMatrix& a, const QuantizedMatrix& b) {
  const auto equal = [](const Tensor& x, const Tensor& y) {
    return x.shape() == y.shape() && std::memcmp(x.data(), y.data(), static_cast<std::size_t>(x.bytes())) == 0;
  };
  return a.format == b.format && equal(a.codes, b.codes) && equal(a.scales, b.scales) && equal(a.zeros, b.zeros);
}

TEST_P(Calibrated, RoundsEveryPlannedMatrixBehindTheRoundedLayersBefore) {
  std::int64_t calls = 0;
  const auto found =
      quantize_calibrated(spec(), weights_, windows_, plan_, Gptq(), [&](std::int64_t done, std::int64_t total) {
        EXPECT_EQ(done, ++calls);
        EXPECT_EQ(total, spec().config.n_layer + 1);
      });
  EXPECT_EQ(calls, spec().config.n_layer + 1);
  CalibrationPass pass(spec(), weights_, make_backend("cpu"), windows_);
  std::size_t expected = 0;
  while (pass.layer() < pass.layers()) {
    Replacements rounded;
    for (const std::string& name : pass.matrices()) {
      const auto format = plan_.format_of(name);
      ASSERT_EQ(found.contains(name), format.has_value()) << name;
      if (!format) continue;
      ++expected;
      const InputMoments inputs = pass.measure({name}, {}).at(name);
      EXPECT_TRUE(same(found.at(name), gptq(checkpoint_.at(name), *format, inputs))) << name;
      EXPECT_LT(output_error(checkpoint_.at(name), dequantize(found.at(name)), inputs),
                output_error(checkpoint_.at(name), dequantize(round_to_nearest(checkpoint_.at(name), *format)), inputs))
          << name;
      rounded[name] = dequantize(found.at(name));
    }
    pass.advance(rounded);
  }
  EXPECT_TRUE(same(found.at(pass.head()), gptq(checkpoint_.at(pass.head()), plan_.embedding, pass.measure_head())));
  EXPECT_EQ(found.size(), expected + 1);
}

TEST_P(Calibrated, NamesTheMatrixThatCannotBeRounded) {
  try {
    quantize_calibrated(spec(), weights_, windows_, plan_, Refuses(), {});
    FAIL() << "a refusal was lost";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("layers.0."));
    EXPECT_THAT(error.what(), testing::HasSubstr("not this one"));
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Calibrated,
                         testing::Values("mamba1-tiny", "falcon-mamba-tiny", "mamba2-groups", "mamba2-tiny-mamba_ssm",
                                         "llama-gqa"),
                         [](const testing::TestParamInfo<std::string>& tested) {
                           std::string name = tested.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace molt
