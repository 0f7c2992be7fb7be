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

/// Leaves every row where it is. One that wants to see each scan's input has layers go op by op.
class Onlooker final : public Router {
 public:
  Onlooker(const Backend& backend, Offsets offsets, ScanSides looks, bool looks_at_h, const float* multiplicity)
      : backend_(backend), offsets_(offsets), looks_(looks), looks_at_h_(looks_at_h), multiplicity_(multiplicity) {}
  LayerRows enter(std::int64_t /*layer*/, Stream& /*stream*/) override {
    return {.offsets = offsets_, .multiplicity = multiplicity_};
  }
  ScanSides looks_at(std::int64_t /*layer*/) const override { return looks_; }
  bool looks_at_h(std::int64_t /*layer*/) const override { return looks_at_h_; }
  void leave(std::int64_t /*layer*/, const Block& /*block*/, const ScanView& scan, Stream& /*stream*/) override {
    if (!looks_.output) return;
    // What is measured, a device may measure before the layer is done: of the same y.
    std::vector<float> scores(static_cast<std::size_t>(scan.y.rows));
    backend_.importance(scan.y, Importance::l1, scores.data());
    const Tensor y = backend_.memory().fetch(Matrix<const float>(scan.y));
    for (std::int64_t t = 0; t < scan.y.rows; ++t) {
      double sum = 0;
      for (std::int64_t d = 0; d < scan.y.cols; ++d) sum += std::abs(y.as<float>()[t * scan.y.cols + d]);
      const double mean = sum / static_cast<double>(scan.y.cols);
      EXPECT_NEAR(scores[static_cast<std::size_t>(t)], mean, 1e-5 * mean + 1e-12) << "row " << t;
    }
    seen_.insert(seen_.end(), y.as<float>(), y.as<float>() + y.size());
  }

  /// What the scans of all layers gave, if it looks at that.
  const std::vector<float>& seen() const { return seen_; }

 private:
  const Backend& backend_;
  Offsets offsets_;
  ScanSides looks_;
  bool looks_at_h_;
  const float* multiplicity_;
  std::vector<float> seen_;
};

/// Random weights with which each op changes what passes through it by as much as a trained model's would.
class LivelyWeights final : public WeightSource {
 public:
  std::optional<Tensor> find(const std::string& name, const Shape& shape) const override {
    const std::optional<Tensor> stored = random_.find(name, shape);
    constexpr double kStored = 0.02;  // the deviation of RandomWeights
    double deviation = kStored;
    if (name.ends_with("_proj.weight")) deviation = 1 / std::sqrt(static_cast<double>(shape.back()));
    if (name.ends_with("conv1d.weight")) deviation = 0.5;
    const Tensor scaled = stored->to_f32();
    for (std::int64_t i = 0; i < scaled.size(); ++i) scaled.as<float>()[i] *= static_cast<float>(deviation / kStored);
    return scaled.to_bf16();
  }
  bool has(const std::string& name) const override { return random_.has(name); }
  std::vector<std::string> names() const override { return random_.names(); }
  std::string description() const override { return random_.description(); }

 private:
  RandomWeights random_{"a test", 5};
};

struct Extents {
  std::int64_t width;
  std::int64_t head_dim;  // of Mamba-2; of Mamba-1 the rank of dt
  std::int64_t states, groups;
  int bits = 16;  // of the weights: bfloat16, or quantized
  std::string type = "mamba2";
};

/// Two layers, random.
ModelCore make_model(const Extents& e, const std::string& backend) {
  Json config{{"model_type", e.type},         {"hidden_size", e.width},
              {"num_hidden_layers", 2},       {"vocab_size", 50},
              {"state_size", e.states},       {"expand", 2},
              {"tie_word_embeddings", false}, {"layer_norm_epsilon", 1e-5}};
  if (e.type == "mamba2") {
    config["head_dim"] = e.head_dim;
    config["num_heads"] = 2 * e.width / e.head_dim;
    config["n_groups"] = e.groups;
  } else {
    config["time_step_rank"] = e.head_dim;
  }
  const auto plan = e.bits == 16 ? std::nullopt : std::optional(QuantizationPlan{{e.bits, e.bits == 4 ? 64 : 0}});
  return {
      read_model_spec(config, "a test", true), LivelyWeights(), make_backend(backend), DType::bf16, DType::f32, plan};
}

enum class Way { whole, whole_with_h, whole_with_output, op_by_op };

struct Passes {
  std::vector<std::int64_t> lengths;  // of the sequences
  DType ssm;
  bool weighted = false;  // rows stand for several
};

/// What two passes leave: the stream behind the last layer, of both; the states, part by part; and, where somebody
/// looks at them, the outputs of the scans.
std::vector<std::vector<float>> run(const ModelCore& model, const Passes& what, Way way) {
  const Memory& memory = model.backend().memory();
  const StateLayout layout = model.state_layout(what.ssm);
  std::vector<std::shared_ptr<std::byte>> states;
  std::vector<std::byte*> pointers;
  std::vector<std::int64_t> offsets{0}, seen;
  std::vector<TokenId> ids;
  for (const std::int64_t length : what.lengths) {
    states.push_back(memory.allocate(layout.bytes));
    pointers.push_back(states.back().get());
    memory.clear(pointers.back(), layout.bytes);
    offsets.push_back(offsets.back() + length);
    seen.push_back(0);
    for (std::int64_t i = 0; i < length; ++i) ids.push_back(static_cast<TokenId>((7 * i * i + 3 * length) % 50));
  }
  std::vector<float> multiplicity;
  for (std::int64_t t = 0; t < offsets.back(); ++t) multiplicity.push_back(static_cast<float>(1 + t % 3));
  std::vector<std::vector<float>> result(1 + layout.parts.size());
  std::vector<float> scans;
  for (int pass = 0; pass < 2; ++pass) {
    Arena arena(memory);
    Onlooker router(model.backend(), offsets,
                    {.output = way == Way::op_by_op || way == Way::whole_with_output, .input = way == Way::op_by_op},
                    way == Way::whole_with_h, what.weighted ? multiplicity.data() : nullptr);
    const bool has_router = way != Way::whole || what.weighted;
    const Stream stream =
        model.forward({.ids = ids, .offsets = offsets, .states = pointers, .ssm = what.ssm, .seen = seen}, arena,
                      has_router ? &router : nullptr);
    const Tensor residual = memory.fetch(stream.residual), h = memory.fetch(stream.h);
    for (std::int64_t i = 0; i < residual.size(); ++i) {
      result[0].push_back(residual.as<float>()[i] + (stream.h_pending ? h.as<float>()[i] : 0.0F));
    }
    scans.insert(scans.end(), router.seen().begin(), router.seen().end());
  }
  for (const std::byte* state : pointers) {
    std::vector<std::byte> there(static_cast<std::size_t>(layout.bytes));
    memory.download(state, there.data(), layout.bytes);
    for (std::size_t i = 0; i < layout.parts.size(); ++i) {
      const StateLayout::Part& part = layout.parts[i];
      const Tensor values =
          Tensor(part.dtype, {element_count(part.shape)}, there.data() + part.offset, nullptr).to_f32();
      result[1 + i].insert(result[1 + i].end(), values.as<float>(), values.as<float>() + values.size());
    }
  }
  if (!scans.empty()) result.push_back(scans);
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

class WholeLayers : public testing::TestWithParam<Extents> {
 protected:
  void check(const ModelCore& there, const ModelCore& here, const Passes& what) {
    const auto want = run(here, what, Way::op_by_op);
    for (const Way way : {Way::op_by_op, Way::whole, Way::whole_with_h, Way::whole_with_output}) {
      const auto got = run(there, what, way);
      ASSERT_EQ(got.size(), want.size() - (way == Way::whole || way == Way::whole_with_h ? 1 : 0));
      for (std::size_t part = 0; part < got.size(); ++part) {
        // With quantized weights the CPU rounds inputs to 8 bits.
        EXPECT_LT(distance(got[part], want[part]), GetParam().bits == 16 ? 0.02 : 0.05)
            << what.lengths.size() << " sequences, the first of " << what.lengths[0] << ", " << name_of(what.ssm)
            << (what.weighted ? ", weighted" : "") << ", way " << static_cast<int>(way) << ", part " << part;
      }
    }
  }
};

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
      check(there, here, {lengths, ssm});
    }
  }
}

TEST_P(WholeLayers, AreTheSameWithLongSequencesAndWithRowsThatStandForSeveral) {
  MOLT_NEEDS_BACKEND("cuda");
  const ModelCore there = make_model(GetParam(), "cuda"), here = make_model(GetParam(), "cpu");
  check(there, here, {{390, 70}, DType::f32});
  check(there, here, {{390, 20}, DType::bf16});
  check(there, here, {{30, 390, 1}, DType::f32, true});
}

INSTANTIATE_TEST_SUITE_P(
    Extents, WholeLayers,
    testing::Values(Extents{64, 16, 24, 1}, Extents{128, 64, 128, 1}, Extents{192, 48, 64, 2}, Extents{256, 64, 128, 1},
                    Extents{512, 16, 64, 1}, Extents{128, 64, 128, 1, 8}, Extents{192, 48, 64, 2, 4},
                    Extents{64, 8, 16, 1, 16, "mamba"}, Extents{96, 24, 9, 1, 16, "mamba"},
                    Extents{256, 16, 16, 1, 16, "mamba"}, Extents{1024, 64, 16, 1, 16, "mamba"},
                    Extents{256, 64, 16, 1, 8, "mamba"}, Extents{256, 64, 16, 1, 4, "mamba"},
                    Extents{128, 40, 16, 1, 16, "falcon_mamba"}, Extents{256, 64, 16, 1, 8, "falcon_mamba"}),
    [](const auto& test) {
      const Extents& e = test.param;
      std::string name = (e.type == "mamba2" ? "cuda_" : e.type + "_cuda_") + std::to_string(e.width);
      if (e.bits != 16) name += "_int" + std::to_string(e.bits);
      return name;
    });

}  // namespace
}  // namespace molt
