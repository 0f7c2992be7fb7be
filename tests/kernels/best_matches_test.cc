// Best matches of several sequences in one call: beside the reference's, one by one, on every backend.
#include <gtest/gtest.h>

#include <limits>
#include <tuple>

#include "tests/kernels/problems.h"
#include "tests/support/backends.h"

namespace molt::testing_kernels {
namespace {

using Numbers = std::vector<std::int64_t>;

constexpr float kNothing = -std::numeric_limits<float>::infinity();

/// What one sequence asks, its rows counted from its own first one.
struct Asked {
  std::int64_t first;
  Numbers sources, targets;
};

struct Matches {
  Numbers match;
  Floats similarity;
};

std::vector<Matches> best_matches(const Backend& backend, const Rows& x, const std::vector<Asked>& asked,
                                  bool later_only) {
  std::vector<Matches> found;
  std::vector<MatchSearch> searches;
  for (const Asked& one : asked) {
    found.push_back({Numbers(one.sources.size(), -99), Floats(one.sources.size(), Rows::kForeign)});
  }
  for (std::size_t i = 0; i < asked.size(); ++i) {
    searches.push_back(
        {asked[i].first, asked[i].sources, asked[i].targets, found[i].match.data(), found[i].similarity.data()});
  }
  backend.best_matches(x.matrix(), searches, later_only);
  return found;
}

/// The reference's, one by one.
std::vector<Matches> wanted(const Rows& x, const std::vector<Asked>& asked, bool later_only) {
  const auto reference = make_backend("reference");
  std::vector<Matches> found;
  for (const Asked& one : asked) {
    found.push_back({Numbers(one.sources.size()), Floats(one.sources.size())});
    reference->best_match(x.matrix().row_range(one.first, x.matrix().rows), one.sources, one.targets, later_only,
                          found.back().match.data(), found.back().similarity.data());
  }
  return found;
}

/// A backend's name, and the precision of the model that it is for: bfloat16 multiplies rows that hold no more exactly.
class BestMatches : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  void SetUp() override {
    const auto& [name, dtype] = GetParam();
    MOLT_NEEDS_BACKEND(name);
    backend_ = make_backend(name);
    if (const auto suited = backend_->suited_to(dtype)) backend_ = suited;
  }

  static bool is_narrow() { return std::get<1>(GetParam()) == DType::bf16; }

  /// Five rows each are like each other, so that matches have something to tell apart.
  static Rows rows_of(std::int64_t rows, std::int64_t cols, std::int64_t gap) {
    Random random(91);
    Rows x(rows, cols, gap, random);
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t d = 0; d < cols; ++d) {
        float& v = x.matrix()(t, d);
        if (t % 5 > 0) v = 0.3F * v + x.matrix()(t - t % 5, d);
        if (is_narrow()) v = BFloat16::from_float(v).to_float();
      }
    }
    return x;
  }

  void expect_as_good(const Rows& x, const std::vector<Asked>& asked, bool later_only) {
    const std::vector<Matches> got = best_matches(*backend_, x, asked, later_only), want = wanted(x, asked, later_only);
    const auto reference = make_backend("reference");
    for (std::size_t i = 0; i < asked.size(); ++i) {
      for (std::size_t k = 0; k < asked[i].sources.size(); ++k) {
        const std::string what = "sequence " + std::to_string(i) + ", source " + std::to_string(k);
        ASSERT_EQ(got[i].match[k] < 0, want[i].match[k] < 0) << what;
        if (want[i].match[k] < 0) {
          ASSERT_EQ(got[i].similarity[k], kNothing) << what;
          continue;
        }
        ASSERT_NEAR(got[i].similarity[k], want[i].similarity[k], 3e-6) << what;
        // As similar as the reference's choice, if it is another one.
        const Numbers target{got[i].match[k]};
        std::int64_t same = 0;
        float similarity = 0;
        reference->best_match(x.matrix().row_range(asked[i].first, x.matrix().rows), {&asked[i].sources[k], 1}, target,
                              later_only, &same, &similarity);
        ASSERT_EQ(same, got[i].match[k]) << what;
        ASSERT_NEAR(similarity, want[i].similarity[k], 3e-6) << what;
      }
    }
  }

  std::shared_ptr<const Backend> backend_;
};

/// Sequences of these lengths behind each other: of each every second row against the others.
std::vector<Asked> halves_of(const std::vector<std::int64_t>& lengths) {
  std::vector<Asked> asked;
  std::int64_t first = 0;
  for (const std::int64_t length : lengths) {
    asked.push_back({first, {}, {}});
    for (std::int64_t i = 0; i < length; ++i) {
      (i % 2 == 1 ? asked.back().sources : asked.back().targets).push_back(i);
    }
    first += length;
  }
  return asked;
}

TEST_P(BestMatches, OfSequencesOfAnyLength) {
  for (const std::int64_t cols : {1, 8, 20, 33, 256}) {
    for (const std::int64_t gap : {std::int64_t{0}, std::int64_t{5}}) {
      const std::vector<std::int64_t> lengths{300, 300, 1, 0, 290, 17, 2, 300, 64, 64, 5};
      const Rows x = rows_of(offsets_of(lengths).back(), cols, gap);
      for (const bool later_only : {false, true}) {
        SCOPED_TRACE(std::to_string(cols) + " columns" + (later_only ? ", later" : ""));
        expect_as_good(x, halves_of(lengths), later_only);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(BestMatches, SomeHaveNoTargetsOrNoSources) {
  const Rows x = rows_of(40, 16, 0);
  expect_as_good(x, {{0, {1, 3}, {}}, {5, {}, {0, 1}}, {10, {4, 0, 2}, {1, 3}}, {20, {}, {}}}, false);
  expect_as_good(x, {{0, {1, 3}, {}}, {10, {4, 0, 2}, {1, 3}}}, true);
  EXPECT_TRUE(best_matches(*backend_, x, {}, false).empty());
}

// More similarities than are kept at a time: a device takes the sources in pieces.
TEST_P(BestMatches, OfOneLongSequenceAmongShortOnes) {
  const std::vector<std::int64_t> lengths{20, 9001, 30};
  const Rows x = rows_of(offsets_of(lengths).back(), 8, 0);
  expect_as_good(x, halves_of(lengths), false);
}

TEST_P(BestMatches, TheFirstOfEqualTargetsAndNoNumberLast) {
  Rows x = rows_of(60, 24, 0);
  for (const std::int64_t copy : {33, 35, 41}) std::copy_n(x.matrix().row(30), 24, x.matrix().row(copy));
  std::fill_n(x.matrix().row(36), 24, 0.0F);
  x.matrix()(37, 3) = std::nanf("");
  const std::vector<Matches> got =
      best_matches(*backend_, x, {{0, {1}, {0, 2}}, {30, {0, 6, 7}, {1, 3, 5, 11}}, {31, {0}, {6}}}, false);
  EXPECT_EQ(got[1].match, (Numbers{3, 1, 1}));
  EXPECT_NEAR(got[1].similarity[0], 1, 3e-6);
  EXPECT_EQ(got[1].similarity[1], 0);         // a source of zeros
  EXPECT_EQ(got[1].similarity[2], kNothing);  // and one that is no number
  EXPECT_EQ(got[2].match, Numbers{6});        // nor is its only target
  EXPECT_EQ(got[2].similarity[0], kNothing);
}

INSTANTIATE_TEST_SUITE_P(Backends, BestMatches,
                         testing::Combine(testing::Values("reference", "cpu", "staged:cuda", "aligned:cuda"),
                                          testing::Values(DType::f32, DType::bf16)),
                         [](const auto& test) {
                           std::string name = std::get<0>(test.param);
                           if (const std::size_t colon = name.find(':'); colon != std::string::npos) name[colon] = '_';
                           return name + "_" + std::string(name_of(std::get<1>(test.param)));
                         });

}  // namespace
}  // namespace molt::testing_kernels
