// What a plan does to the stream, row by row, against means taken by plain loops: merging on each branch, with and
// without weights, leaving, and coming back.
#include "reduction/pass.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/random.h"
#include "molt/state.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::fixture;

/// Both branches of the stream, by position, of one sequence; where nothing is pending h is zeros.
struct Rows {
  std::map<std::int64_t, std::vector<float>> residual;
  std::map<std::int64_t, std::vector<float>> h;
};

constexpr std::size_t kSequence = 1;  // the one that is reduced; the one before it is dense

Rows rows_of(const Stream& stream, const RowTable& table) {
  Rows rows;
  const std::vector<std::int64_t> positions = table.positions(kSequence);
  std::int64_t row = table.live_offsets()[kSequence];
  for (const std::int64_t position : positions) {
    rows.residual[position].assign(stream.residual.row(row), stream.residual.row(row) + stream.residual.cols);
    rows.h[position].assign(static_cast<std::size_t>(stream.h.cols), 0.0F);
    if (stream.h_pending) std::copy_n(stream.h.row(row), stream.h.cols, rows.h[position].begin());
    ++row;
  }
  return rows;
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-5) << what << ", channel " << i;
}

std::vector<float> sum(std::vector<float> a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b.at(i);
  return a;
}

/// Lets a ReducedPass do its work and checks what it did.
class Watcher final : public Router {
 public:
  Watcher(ReducedPass& pass, const ReductionRecord& record, bool weighted)
      : pass_(pass), record_(record), weighted_(weighted) {}

  LayerRows enter(std::int64_t layer, Stream& stream) override {
    const Rows before = layer == 0 ? Rows{} : rows_of(stream, pass_.table());
    const LayerRows rows = pass_.enter(layer, stream);
    if (layer == 0) return rows;
    const Rows after = rows_of(stream, pass_.table());
    for (const auto& [position, residual] : after.residual) {
      const std::vector<float>& h = after.h.at(position);
      const std::string what = "before block " + std::to_string(layer);
      if (before.residual.contains(position)) {
        expect_near(sum(residual, h), sum(before.residual.at(position), before.h.at(position)), what);
      } else {
        expect_near(sum(residual, h), left_with_.at(position), "residual + h " + what);
        ++returned_;
      }
    }
    return rows;
  }

  ScanSides looks_at(std::int64_t /*layer*/) const override { return {.output = true}; }

  void leave(std::int64_t layer, const Block& block, const ScanView& scan, Stream& stream) override {
    const Rows before = rows_of(stream, pass_.table());
    weights_.clear();
    std::int64_t row = pass_.table().live_offsets()[kSequence];
    for (const auto& [position, values] : before.h) {
      double sum = 0;
      for (std::int64_t d = 0; d < scan.y.cols; ++d) sum += std::max(scan.y(row, d), 0.0F);
      weights_[position] = weighted_ ? sum / static_cast<double>(scan.y.cols) : 1.0;
      ++row;
    }
    pass_.leave(layer, block, scan, stream);
    const Rows after = rows_of(stream, pass_.table());
    for (const auto& [position, values] : before.residual) left_with_[position] = sum(values, before.h.at(position));
    EXPECT_EQ(stream.h.rows, stream.residual.rows);
    for (const auto& [position, values] : after.residual) {
      const auto into_residual = [](const TokenFate& fate) { return fate.residual_into; };
      const auto into_hidden = [](const TokenFate& fate) { return fate.hidden_into; };
      expect_near(
          sum(values, after.h.at(position)),
          sum(merged(before.residual, position, layer, into_residual), merged(before.h, position, layer, into_hidden)),
          "residual + h");
    }
    left_ += before.h.size() - after.h.size();
  }

  std::size_t left() const { return left_; }
  std::size_t merges() const { return merges_; }
  std::size_t returned() const { return returned_; }

 private:
  /// The weighted mean of a row and of all those that went into it.
  template <class Into>
  std::vector<float> merged(const std::map<std::int64_t, std::vector<float>>& rows, std::int64_t position,
                            std::int64_t layer, Into into) {
    std::vector<double> sum(rows.at(position).size(), 0.0);
    double weight = 0;
    const auto add = [&](std::int64_t source) {
      weight += weights_.at(source);
      for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += weights_.at(source) * rows.at(source)[d];
    };
    add(position);
    for (const TokenFate& fate : record_.fates) {
      if (fate.site != layer || into(fate) != position) continue;
      add(fate.position);
      ++merges_;
    }
    std::vector<float> mean;
    for (const double value : sum) mean.push_back(static_cast<float>(value / weight));
    return mean;
  }

  ReducedPass& pass_;
  const ReductionRecord& record_;
  bool weighted_;
  std::map<std::int64_t, double> weights_;
  std::map<std::int64_t, std::vector<float>> left_with_;  // r + h of every token at the last site that it passed
  std::size_t left_ = 0;
  std::size_t merges_ = 0;
  std::size_t returned_ = 0;
};

/// What a pass over a dense and a reduced sequence did, all of it checked on the way.
struct Done {
  std::size_t left, merges, returned;
};

Done run(const std::string& spec, bool weighted = false) {
  const Model model = Model::load(fixture("tiny/mamba2-tiny"), {.weights = WeightType::f32});
  const Reduction reduction = Reduction::parse(model, spec);
  const std::int64_t offsets[] = {0, 17, 57};
  std::vector<TokenId> ids(57);
  Random random(3);
  for (TokenId& id : ids) id = static_cast<TokenId>(random.next() % 97);
  const State first(model);
  const State second(model);
  std::byte* const states[] = {first.data(), second.data()};
  std::vector<std::int64_t> owed(3);
  ReductionRecord record;
  record.tokens = 40;
  const ReducedPiece pieces[] = {{.reduction = nullptr, .place = {.begin = 0, .tokens = 17, .length = 17}, .fed = 17},
                                 {.reduction = &reduction.core(),
                                  .place = {.begin = 0, .tokens = 40, .length = 40},
                                  .fed = 40,
                                  .owed = owed,
                                  .record = &record}};
  Arena arena;
  Arena parked;
  ReducedPass pass(pieces, *model.core(), arena, parked);
  Watcher watcher(pass, record, weighted);
  model.core()->forward({ids, offsets, states}, arena, &watcher);
  return {watcher.left(), watcher.merges(), watcher.returned()};
}

TEST(ReducedPass, MergesOnBothBranchesByTheMean) {
  for (const std::string options : {"", ",hidden=merge", ",hidden=prune", ",residual=hybrid,q=0.3"}) {
    const Done done = run("utr:flops=0.3,sites=0+1" + options);
    EXPECT_GT(done.left, 10U);
    EXPECT_GT(done.merges, done.left / 2);
  }
  const Done released = run("utr-released:flops=0.3,sites=0+1");
  EXPECT_EQ(released.merges, 2 * released.left);
}

TEST(ReducedPass, MergesWithWeights) {
  const Done done = run("evit:flops=0.3,sites=0+1,fused=on", true);
  EXPECT_GT(done.left, 10U);
  EXPECT_EQ(done.merges, 2 * done.left);
}

TEST(ReducedPass, PrunesWithoutATrace) {
  const Done done = run("evit:flops=0.3,sites=0+1");
  EXPECT_GT(done.left, 10U);
  EXPECT_EQ(done.merges, 0U);
}

TEST(ReducedPass, TokensComeBackAsTheyLeft) {
  const Done done = run("bypass:flops=0.3,from=1,to=2");
  EXPECT_EQ(done.left, 36U);  // 40 * 0.3 * 3
  EXPECT_EQ(done.returned, 36U);
}

}  // namespace
}  // namespace molt
