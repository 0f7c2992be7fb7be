// Options of Mamba-2 blocks that no reference output covers (norm before the gate, norm in groups, no norm, D a
// channel), against the recurrence of the paper written out plainly in double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/random.h"
#include "io/json_file.h"
#include "io/safetensors.h"
#include "molt/session.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using Vector = std::vector<double>;

struct Variant {
  std::string name;
  std::int64_t groups = 1;
  bool gated_norm = true;
  bool norm_before_gate = false;
  bool D_per_channel = false;
  bool bias = false;
  double dt_max = std::numeric_limits<double>::infinity();

  friend std::ostream& operator<<(std::ostream& out, const Variant& v) { return out << v.name; }
};

constexpr std::int64_t kWidth = 24;
constexpr std::int64_t kInner = 48;
constexpr std::int64_t kHeads = 6;
constexpr std::int64_t kHeadDim = kInner / kHeads;
constexpr std::int64_t kState = 10;
constexpr std::int64_t kTaps = 4;
constexpr std::int64_t kVocabulary = 31;
constexpr std::int64_t kLayers = 2;

/// A random model of one variant: its tensors by mamba_ssm name, and a folder that holds it in that format.
class RandomModel {
 public:
  explicit RandomModel(const Variant& variant) : variant_(variant) {
    const std::int64_t bc = variant.groups * kState;
    add("backbone.embedding.weight", {kVocabulary, kWidth}, -1, 1);
    for (std::int64_t i = 0; i < kLayers; ++i) {
      const std::string layer = "backbone.layers." + std::to_string(i) + ".";
      const std::string mixer = layer + "mixer.";
      add(layer + "norm.weight", {kWidth}, 0.5, 1.5);
      add(mixer + "in_proj.weight", {2 * kInner + 2 * bc + kHeads, kWidth}, -0.3, 0.3);
      add(mixer + "conv1d.weight", {kInner + 2 * bc, 1, kTaps}, -0.5, 0.5);
      add(mixer + "conv1d.bias", {kInner + 2 * bc}, -0.2, 0.2);
      add(mixer + "dt_bias", {kHeads}, -3, 0);
      add(mixer + "A_log", {kHeads}, 0, 2);
      add(mixer + "D", {variant.D_per_channel ? kInner : kHeads}, -1, 1);
      if (variant.gated_norm) add(mixer + "norm.weight", {kInner}, 0.5, 1.5);
      add(mixer + "out_proj.weight", {kWidth, kInner}, -0.3, 0.3);
      if (!variant.bias) continue;
      add(mixer + "in_proj.bias", {2 * kInner + 2 * bc + kHeads}, -0.2, 0.2);
      add(mixer + "out_proj.bias", {kWidth}, -0.2, 0.2);
    }
    add("backbone.norm_f.weight", {kWidth}, 0.5, 1.5);
    write();
  }

  const std::string& folder() const { return folder_.path(); }

  Vector values(const std::string& name) const {
    const Tensor& tensor = tensors_.at(name);
    return {tensor.as<float>(), tensor.as<float>() + tensor.size()};
  }
  bool has(const std::string& name) const { return tensors_.contains(name); }

 private:
  void add(const std::string& name, const Shape& shape, double low, double high) {
    Tensor tensor = Tensor::zeros(DType::f32, shape);
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      tensor.as<float>()[i] = static_cast<float>(random_.uniform(low, high));
    }
    tensors_[name] = tensor;
  }

  void write() const {
    write_safetensors(folder_ / "model.safetensors", {tensors_.begin(), tensors_.end()});
    Json ssm = {{"layer", "Mamba2"},
                {"d_state", kState},
                {"headdim", kHeadDim},
                {"ngroups", variant_.groups},
                {"rmsnorm", variant_.gated_norm},
                {"norm_before_gate", variant_.norm_before_gate},
                {"D_has_hdim", variant_.D_per_channel},
                {"bias", variant_.bias}};
    if (std::isfinite(variant_.dt_max)) ssm["dt_limit"] = {0.0, variant_.dt_max};
    const Json config = {{"d_model", kWidth},
                         {"n_layer", kLayers},
                         {"vocab_size", kVocabulary},
                         {"pad_vocab_size_multiple", 1},
                         {"ssm_cfg", ssm}};
    folder_.write("config.json", config.dump());
  }

  Variant variant_;
  testing_support::TempFolder folder_;
  Random random_{7};
  std::map<std::string, Tensor> tensors_;
};

double silu(double x) {
  return x / (1 + std::exp(-x));
}

Vector multiply(const Vector& w, const Vector& x, const Vector& bias) {
  Vector y(w.size() / x.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    y[i] = std::inner_product(x.begin(), x.end(), w.begin() + static_cast<std::ptrdiff_t>(i * x.size()),
                              bias.empty() ? 0.0 : bias[i]);
  }
  return y;
}

Vector rms_norm(const Vector& x, const Vector& weight, std::size_t group) {
  Vector y(x.size());
  for (std::size_t begin = 0; begin < x.size(); begin += group) {
    double squares = 0;
    for (std::size_t i = begin; i < begin + group; ++i) squares += x[i] * x[i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(group) + 1e-5);
    for (std::size_t i = begin; i < begin + group; ++i) y[i] = x[i] * scale * weight[i];
  }
  return y;
}

/// One layer's mixer, a token at a time.
class PlainMixer {
 public:
  PlainMixer(const RandomModel& model, const Variant& variant, std::int64_t layer)
      : model_(model),
        variant_(variant),
        prefix_("backbone.layers." + std::to_string(layer) + ".mixer."),
        past_(kTaps, Vector(static_cast<std::size_t>(kInner + 2 * variant.groups * kState))),
        state_(static_cast<std::size_t>(kInner * kState)) {}

  Vector step(const Vector& x) {
    const std::int64_t bc = variant_.groups * kState;
    const Vector projected = multiply(get("in_proj.weight"), x, get("in_proj.bias"));
    const auto at = [&](std::int64_t i) { return projected.begin() + i; };
    const Vector z(at(0), at(kInner));
    const Vector xbc = convolve({at(kInner), at(2 * kInner + 2 * bc)});
    const Vector dt(at(2 * kInner + 2 * bc), projected.end());
    return multiply(get("out_proj.weight"), gate(scan(xbc, dt), z), get("out_proj.bias"));
  }

 private:
  Vector get(const std::string& name) const {
    return model_.has(prefix_ + name) ? model_.values(prefix_ + name) : Vector();
  }

  Vector convolve(Vector input) {
    past_.erase(past_.begin());
    past_.push_back(std::move(input));
    const Vector weight = get("conv1d.weight");
    Vector y = get("conv1d.bias");
    for (std::size_t c = 0; c < y.size(); ++c) {
      for (std::size_t k = 0; k < kTaps; ++k) y[c] += weight[c * kTaps + k] * past_[k][c];
      y[c] = silu(y[c]);
    }
    return y;
  }

  Vector scan(const Vector& xbc, const Vector& dt_raw) {
    const Vector a_log = get("A_log");
    const Vector dt_bias = get("dt_bias");
    const Vector D = get("D");
    Vector y(kInner);
    for (std::int64_t channel = 0; channel < kInner; ++channel) {
      const auto c = static_cast<std::size_t>(channel);
      const std::size_t h = c / kHeadDim;
      const double dt = std::min(variant_.dt_max, std::log1p(std::exp(dt_raw[h] + dt_bias[h])));
      const auto group = static_cast<std::int64_t>(h) / (kHeads / variant_.groups);
      for (std::int64_t n = 0; n < kState; ++n) {
        const double B = xbc[static_cast<std::size_t>(kInner + group * kState + n)];
        const double C = xbc[static_cast<std::size_t>(kInner + (variant_.groups + group) * kState + n)];
        double& S = state_[static_cast<std::size_t>(channel * kState + n)];
        S = std::exp(-dt * std::exp(a_log[h])) * S + dt * B * xbc[c];
        y[c] += C * S;
      }
      y[c] += D[variant_.D_per_channel ? c : h] * xbc[c];
    }
    return y;
  }

  Vector gate(Vector y, const Vector& z) const {
    const auto times_gate = [&](Vector v) {
      for (std::size_t i = 0; i < v.size(); ++i) v[i] *= silu(z[i]);
      return v;
    };
    if (!variant_.gated_norm) return times_gate(y);
    const auto group = static_cast<std::size_t>(kInner / variant_.groups);
    const Vector weight = get("norm.weight");
    return variant_.norm_before_gate ? times_gate(rms_norm(y, weight, group)) : rms_norm(times_gate(y), weight, group);
  }

  const RandomModel& model_;
  const Variant& variant_;
  std::string prefix_;
  std::vector<Vector> past_;  // the last inputs of the convolution, newest last
  Vector state_;              // [kInner, kState]
};

Vector plain_logits(const RandomModel& model, const Variant& variant, const std::vector<TokenId>& ids) {
  std::vector<PlainMixer> mixers;
  for (std::int64_t i = 0; i < kLayers; ++i) mixers.emplace_back(model, variant, i);
  const Vector embedding = model.values("backbone.embedding.weight");
  Vector stream;
  for (const TokenId id : ids) {
    stream.assign(embedding.begin() + id * kWidth, embedding.begin() + (id + 1) * kWidth);
    for (std::size_t i = 0; i < mixers.size(); ++i) {
      const Vector weight = model.values("backbone.layers." + std::to_string(i) + ".norm.weight");
      const Vector h = mixers[i].step(rms_norm(stream, weight, kWidth));
      for (std::size_t d = 0; d < stream.size(); ++d) stream[d] += h[d];
    }
  }
  return multiply(embedding, rms_norm(stream, model.values("backbone.norm_f.weight"), kWidth), {});
}

class Mamba2Options : public testing::TestWithParam<Variant> {};

TEST_P(Mamba2Options, MatchThePlainRecurrence) {
  const RandomModel files(GetParam());
  std::vector<TokenId> ids;
  Random random(11);
  for (int i = 0; i < 83; ++i) ids.push_back(static_cast<TokenId>(random.next() % kVocabulary));
  const Vector expected = plain_logits(files, GetParam(), ids);
  double largest = 0;
  for (const double logit : expected) largest = std::max(largest, std::abs(logit));
  for (const std::string backend : {"reference", "cpu"}) {
    const Model model = Model::load(files.folder(), {.weights = WeightType::f32, .backend = backend, .tokenizer = ""});
    Session session(model);
    State state(model);
    const auto logits = session.feed(state, ids);
    ASSERT_EQ(logits.size(), expected.size());
    for (std::size_t v = 0; v < expected.size(); ++v) {
      EXPECT_NEAR(logits[v], expected[v], 1e-5 * largest) << backend << " token " << v;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Variants, Mamba2Options,
    testing::Values(Variant{.name = "plain"}, Variant{.name = "groups", .groups = 3},
                    Variant{.name = "norm_before_gate", .norm_before_gate = true},
                    Variant{.name = "groups_norm_before_gate", .groups = 2, .norm_before_gate = true},
                    Variant{.name = "gate_alone", .gated_norm = false},
                    Variant{.name = "D_per_channel", .D_per_channel = true}, Variant{.name = "bias", .bias = true},
                    Variant{.name = "dt_limit", .dt_max = 0.1}),
    [](const auto& variant) { return variant.param.name; });

}  // namespace
}  // namespace molt
