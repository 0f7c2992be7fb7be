// MapFitter: maps against the block's own write, and against ridge regression solved by hand in double precision.
#include "tune/map_fitter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "io/safetensors.h"
#include "molt/state.h"
#include "reduction/pass.h"
#include "tests/tune/problems.h"

namespace molt {
namespace {

using testing_support::fixture;
using testing_support::random_documents;
using testing_support::random_fitter;
using testing_support::tiny_model;

using Rows = std::vector<std::vector<double>>;

std::vector<std::int64_t> all_heads(const Model& model) {
  std::vector<std::int64_t> heads(static_cast<std::size_t>(model.core()->block(0).heads()));
  std::iota(heads.begin(), heads.end(), 0);
  return heads;
}

Rows rows_of(const Tensor& tensor) {
  const Tensor f32 = tensor.to_f32();
  const std::int64_t cols = f32.shape().back();
  Rows rows;
  for (std::int64_t i = 0; i < f32.size() / cols; ++i) {
    rows.emplace_back(f32.as<float>() + i * cols, f32.as<float>() + (i + 1) * cols);
  }
  return rows;
}

/// Scaled to a root mean square of 1.
std::vector<double> unit(std::vector<double> row, double eps) {
  const double square = std::inner_product(row.begin(), row.end(), row.begin(), 0.0) / static_cast<double>(row.size());
  for (double& x : row) x /= std::sqrt(square + eps);
  return row;
}

/// The x of A x = b for each column of b, by Gaussian elimination with pivots; b becomes it.
void solve(Rows a, Rows& b) {
  const std::size_t n = a.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < n; ++i) pivot = std::abs(a[i][k]) > std::abs(a[pivot][k]) ? i : pivot;
    std::swap(a[k], a[pivot]);
    std::swap(b[k], b[pivot]);
    for (std::size_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const double factor = a[i][k] / a[k][k];
      for (std::size_t j = k; j < n; ++j) a[i][j] -= factor * a[k][j];
      for (std::size_t j = 0; j < b[i].size(); ++j) b[i][j] -= factor * b[k][j];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (double& x : b[i]) x /= a[i][i];
  }
}

/// A fixture's files, read without the engine.
struct Weights {
  explicit Weights(const std::string& name)
      : file(read_safetensors(fixture("tiny/" + name) + "/model.safetensors")), prefix("backbone.") {}

  bool has(const std::string& key) const { return file.tensors.contains(prefix + key); }
  Rows rows(const std::string& key) const { return rows_of(file.tensors.at(prefix + key)); }
  std::string layer(std::int64_t l, const std::string& key) const { return "layers." + std::to_string(l) + "." + key; }

  SafetensorsFile file;
  std::string prefix;
};

/// Keeps the stream behind block 0 of one prompt.
class Watcher final : public Reducer {
 public:
  explicit Watcher(std::int64_t layer, Rows& rows) : layer_(layer), rows_(rows) {}
  std::vector<std::int64_t> sites() const override { return {layer_}; }
  Plan plan(const Site& site) const override {
    const std::vector<float> stream = site.features(Feature::stream);
    const std::ptrdiff_t width = std::ssize(stream) / site.tokens();
    for (std::ptrdiff_t t = 0; t < site.tokens(); ++t) {
      rows_.emplace_back(stream.begin() + t * width, stream.begin() + (t + 1) * width);
    }
    return {};
  }

 private:
  std::int64_t layer_;
  Rows& rows_;
};

/// Runs one prompt under a reducer and gives the state that it leaves.
std::vector<float> run(const Model& model, std::span<const TokenId> ids, std::shared_ptr<const Reducer> reducer) {
  Reduction::Core reduction;
  reduction.method = "test";
  reduction.reducer = std::move(reducer);
  const std::int64_t tokens = std::ssize(ids);
  std::vector<std::int64_t> owed(static_cast<std::size_t>(model.core()->config().n_layer), 0);
  const ReducedPiece piece{.reduction = &reduction,
                           .place = {.begin = 0, .tokens = tokens, .length = tokens},
                           .fed = tokens,
                           .owed = owed,
                           .record = nullptr};
  Arena arena;
  Arena parked;
  ReducedPass pass({&piece, 1}, *model.core(), arena, parked);
  std::vector<float> state(static_cast<std::size_t>(model.core()->state_layout().bytes) / sizeof(float), 0.0F);
  std::byte* const states[] = {reinterpret_cast<std::byte*>(state.data())};
  const std::int64_t offsets[] = {0, tokens};
  model.core()->forward({ids, offsets, states}, arena, &pass);
  return state;
}

class Fitter : public testing::TestWithParam<std::string> {
 protected:
  std::int64_t layers() const { return model_.core()->config().n_layer; }

  Model model_ = tiny_model(GetParam());
};

// Tokens that leave behind the block before write by the map what the block itself would have them write.
TEST_P(Fitter, TheExactMapIsTheBlocksOwnWrite) {
  class Writes final : public Reducer {
   public:
    Writes(std::int64_t to, std::shared_ptr<const WriteMap> map) : to_(to), map_(std::move(map)) {}
    std::vector<std::int64_t> sites() const override { return {to_ - 1}; }
    Plan plan(const Site& site) const override {
      Plan plan;
      plan.courses = {Course{.writes = {{to_, map_}}}};
      for (std::int64_t t = 5; t < 30; ++t) plan.departures.push_back({.token = t});
      EXPECT_EQ(site.tokens(), 40);
      return plan;
    }

   private:
    std::int64_t to_;
    std::shared_ptr<const WriteMap> map_;
  };
  const auto fitter = random_fitter(model_, 1);
  const std::vector<TokenId> ids = random_documents(model_, 1, 40, 2).front();
  for (std::int64_t to = 0; to < layers(); ++to) {
    const WriteMapKey key{0, to, to, 'W'};
    const auto map = WriteMaps::pack(fitter->fit(key, all_heads(model_)), key, *model_.core(), "a test");
    const std::vector<float> own = run(model_, ids, std::make_shared<Writes>(to, nullptr));
    const std::vector<float> mapped = run(model_, ids, std::make_shared<Writes>(to, map));
    // That block's state alone: what later blocks hold follows from it, rounding enlarged.
    const std::vector<std::int64_t>& begins = model_.core()->state_layout().layer_offsets;
    const auto floats_before = [&](std::int64_t layer) {
      return static_cast<std::size_t>(begins[static_cast<std::size_t>(layer)]) / sizeof(float);
    };
    const std::size_t begin = floats_before(to);
    const std::size_t end = to + 1 < layers() ? floats_before(to + 1) : own.size();
    float largest = 0;
    float worst = 0;
    for (std::size_t i = begin; i < end; ++i) {
      largest = std::max(largest, std::abs(own[i]));
      worst = std::max(worst, std::abs(own[i] - mapped[i]));
    }
    EXPECT_GT(largest, 0);
    EXPECT_LT(worst, 1e-5F * largest) << "block " << to;
  }
}

// v_0 is the scaled embedding; what the map is to predict are the rows of in_proj that feed the state.
TEST_P(Fitter, OtherMapsAreRidgeRegression) {
  constexpr double kLambda = 1e-3;
  const Weights weights(GetParam());
  const double eps = model_.core()->config().norm_eps;
  const Rows embedding = weights.rows("embeddings.weight");
  const auto texts = random_documents(model_, 5, 80, 3);
  MapFitter fitter(*model_.core(), layers());
  for (const auto& text : texts) fitter.add(text);
  const std::size_t width = embedding.front().size();

  for (std::int64_t to = 1; to < layers(); ++to) {
    Rows from;    // v_0 and a one
    Rows wanted;  // v_to
    for (const auto& text : texts) {
      Rows stream;
      run(model_, text, std::make_shared<Watcher>(to - 1, stream));
      for (std::size_t t = 1; t < text.size(); ++t) {
        from.push_back(unit(embedding[static_cast<std::size_t>(text[t])], eps));
        from.back().push_back(1);
        wanted.push_back(unit(stream[t], eps));
      }
    }
    Rows gram(width + 1, std::vector<double>(width + 1));
    Rows map(width + 1, std::vector<double>(width));  // [input, output]
    for (std::size_t t = 0; t < from.size(); ++t) {
      for (std::size_t i = 0; i <= width; ++i) {
        for (std::size_t j = 0; j <= width; ++j) gram[i][j] += from[t][i] * from[t][j];
        for (std::size_t j = 0; j < width; ++j) map[i][j] += from[t][i] * wanted[t][j];
      }
    }
    for (std::size_t i = 0; i < width; ++i) gram[i][i] += kLambda * static_cast<double>(from.size());
    solve(gram, map);

    // The rows of in_proj that make x, B and dt (of blocks with heads), or x.
    const Rows norm = weights.rows(weights.layer(to, "norm.weight"));
    const Rows in_proj = weights.rows(weights.layer(to, "mixer.in_proj.weight"));
    std::vector<double> in_bias(in_proj.size(), 0.0);
    if (weights.has(weights.layer(to, "mixer.in_proj.bias"))) {
      in_bias = weights.rows(weights.layer(to, "mixer.in_proj.bias")).front();
    }
    const Block& block = model_.core()->block(to);
    const std::vector<std::int64_t> heads = all_heads(model_);
    std::vector<std::size_t> rows;
    const auto add = [&](std::size_t begin, std::size_t count) {
      for (std::size_t i = 0; i < count; ++i) rows.push_back(begin + i);
    };
    if (heads.empty()) {
      add(0, in_proj.size() / 2);
    } else {
      const std::size_t dt = heads.size();
      const std::size_t bc = static_cast<std::size_t>(block.write_outputs({})) - dt;
      const std::size_t inner = (in_proj.size() - 2 * bc - dt) / 2;
      add(inner, inner + bc);
      add(in_proj.size() - dt, dt);
    }
    const WriteMapTensors fitted = fitter.fit({0, 0, to, 'W'}, heads);
    ASSERT_EQ(fitted.weight.shape()[0], std::ssize(rows));
    double largest = 0;
    double worst = 0;
    for (std::size_t o = 0; o < rows.size(); ++o) {
      for (std::size_t i = 0; i <= width; ++i) {
        double expected = i == width ? in_bias[rows[o]] : 0;
        for (std::size_t d = 0; d < width; ++d) expected += in_proj[rows[o]][d] * norm[0][d] * map[i][d];
        const auto row = static_cast<std::int64_t>(o);
        const double actual =
            i == width ? fitted.bias.as<float>()[row] : fitted.weight.matrix()(row, static_cast<std::int64_t>(i));
        largest = std::max(largest, std::abs(expected));
        worst = std::max(worst, std::abs(expected - actual));
      }
    }
    EXPECT_LT(worst, 1e-3 * largest) << "to block " << to;
  }
}

TEST_P(Fitter, HorizonsAreOfHeads) {
  const auto fitter = random_fitter(model_, 1);
  ASSERT_EQ(std::ssize(fitter->horizons()), layers());
  for (std::int64_t l = 0; l < layers(); ++l) {
    const std::vector<double>& horizons = fitter->horizons()[static_cast<std::size_t>(l)];
    EXPECT_EQ(std::ssize(horizons), model_.core()->block(l).heads());
    for (const double horizon : horizons) EXPECT_TRUE(horizon > 0 && std::isfinite(horizon)) << horizon;
  }
}

TEST_P(Fitter, ReachIsWhatMemoryAllows) {
  EXPECT_EQ(MapFitter::reach_within(*model_.core(), 1e12), layers() - 1);
  EXPECT_EQ(MapFitter::reach_within(*model_.core(), 0), 1);
}

INSTANTIATE_TEST_SUITE_P(Models, Fitter,
                         testing::Values("mamba1-tiny", "mamba1-bias", "falcon-mamba-tiny", "mamba2-tiny",
                                         "mamba2-groups"),
                         testing_support::model_name);

}  // namespace
}  // namespace molt
