// Layers that a backend takes as a whole, beside the same layers op by op and beside the CPU's.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "io/json_file.h"
#include "model/model.h"
#include "model/weight_sources.h"
#include "tests/support/backends.h"

namespace molt {
namespace {

/// Leaves every row where it is. One that wants to see each scan has layers go op by op.
class Onlooker final : public Router {
 public:
  Onlooker(Offsets offsets, bool looks) : offsets_(offsets), looks_(looks) {}
  LayerRows enter(std::int64_t /*layer*/, Stream& /*stream*/) override { return {offsets_}; }
  ScanSides looks_at(std::int64_t /*layer*/) const override { return {.output = looks_, .input = looks_}; }
  void leave(std::int64_t /*layer*/, const Block& /*block*/, const ScanView& /*scan*/, Stream& /*stream*/) override {}

 private:
  Offsets offsets_;
  bool looks_;
};

struct Extents {
  std::int64_t width, head_dim, states, groups;
  int bits = 16;  // of the weights: bfloat16, or quantized
};

/// Two layers, random.
ModelCore make_model(const Extents& e, const std::string& backend) {
  const Json config{{"model_type", "mamba2"},
                    {"hidden_size", e.width},
                    {"num_hidden_layers", 2},
                    {"vocab_size", 50},
                    {"head_dim", e.head_dim},
                    {"num_heads", 2 * e.width / e.head_dim},
                    {"state_size", e.states},
                    {"n_groups", e.groups},
                    {"expand", 2},
                    {"tie_word_embeddings", false},
                    {"layer_norm_epsilon", 1e-5}};
  const auto plan = e.bits == 16 ? std::nullopt : std::optional(QuantizationPlan{{e.bits, e.bits == 4 ? 64 : 0}});
  return {read_model_spec(config, "a test", true),
          RandomWeights("a test", 5),
          make_backend(backend),
          DType::bf16,
          DType::f32,
          plan};
}

enum class Way { whole, whole_with_h, op_by_op };

/// The stream behind the last layer, then the states, of two passes over sequences of the given lengths.
std::vector<float> run(const ModelCore& model, const std::vector<std::int64_t>& lengths, DType ssm, Way way) {
  const Memory& memory = model.backend().memory();
  const std::int64_t bytes = model.state_layout(ssm).bytes;
  std::vector<std::shared_ptr<std::byte>> states;
  std::vector<std::byte*> pointers;
  std::vector<std::int64_t> offsets{0}, seen;
  std::vector<TokenId> ids;
  for (const std::int64_t length : lengths) {
    states.push_back(memory.allocate(bytes));
    pointers.push_back(states.back().get());
    memory.clear(pointers.back(), bytes);
    offsets.push_back(offsets.back() + length);
    seen.push_back(0);
    for (std::int64_t i = 0; i < length; ++i) ids.push_back(static_cast<TokenId>((7 * i * i + 3 * length) % 50));
  }
  std::vector<float> result;
  for (int pass = 0; pass < 2; ++pass) {
    Arena arena(memory);
    Onlooker router(offsets, way == Way::op_by_op);
    const Stream stream = model.forward({.ids = ids, .offsets = offsets, .states = pointers, .ssm = ssm, .seen = seen},
                                        arena, way == Way::whole ? nullptr : &router);
    const Tensor residual = memory.fetch(stream.residual), h = memory.fetch(stream.h);
    for (std::int64_t i = 0; i < residual.size(); ++i) result.push_back(residual.as<float>()[i] + h.as<float>()[i]);
  }
  for (const std::byte* state : pointers) {
    std::vector<std::byte> there(static_cast<std::size_t>(bytes));
    memory.download(state, there.data(), bytes);
    for (const StateLayout::Part& part : model.state_layout(ssm).parts) {
      const Tensor values =
          Tensor(part.dtype, {element_count(part.shape)}, there.data() + part.offset, nullptr).to_f32();
      result.insert(result.end(), values.as<float>(), values.as<float>() + values.size());
    }
  }
  return result;
}

/// |got - want| / |want|.
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  double apart = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    apart += std::pow(static_cast<double>(got[i]) - want[i], 2);
    size += std::pow(static_cast<double>(want[i]), 2);
  }
  return got.size() == want.size() ? std::sqrt(apart / size) : INFINITY;
}

class WholeLayers : public testing::TestWithParam<Extents> {};

TEST_P(WholeLayers, AreTheLayersOpByOp) {
  MOLT_NEEDS_BACKEND("cuda");
  const ModelCore there = make_model(GetParam(), "cuda"), here = make_model(GetParam(), "cpu");
  for (const DType ssm : {DType::f32, DType::bf16}) {
    for (const std::vector<std::int64_t>& lengths : {std::vector<std::int64_t>{40, 1, 200, 3},
                                                     {2, 70},
                                                     {5, 1, 2},
                                                     {1},
                                                     {1, 1, 1},
                                                     {1, 1, 1, 1, 1, 1, 1},
                                                     std::vector<std::int64_t>(12, 1),
                                                     std::vector<std::int64_t>(16, 1)}) {
      const auto want = run(here, lengths, ssm, Way::whole);
      for (const Way way : {Way::op_by_op, Way::whole, Way::whole_with_h}) {
        // With quantized weights the CPU rounds inputs to 8 bits.
        EXPECT_LT(distance(run(there, lengths, ssm, way), want), GetParam().bits == 16 ? 0.01 : 0.03)
            << lengths.size() << " sequences, way " << static_cast<int>(way);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Extents, WholeLayers,
                         testing::Values(Extents{64, 16, 24, 1}, Extents{128, 64, 128, 1}, Extents{192, 48, 64, 2},
                                         Extents{256, 64, 128, 1}, Extents{512, 16, 64, 1}, Extents{128, 64, 128, 1, 8},
                                         Extents{192, 48, 64, 2, 4}),
                         [](const auto& test) {
                           const std::string width = "cuda_" + std::to_string(test.param.width);
                           return test.param.bits == 16 ? width : width + "_int" + std::to_string(test.param.bits);
                         });

}  // namespace
}  // namespace molt
