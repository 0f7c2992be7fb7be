// Best matches of every instruction set: against the reference, with ties, NaNs, and any number of threads.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <numeric>

#include "base/parallel.h"
#include "kernels/cpu/select.h"
#include "tests/kernels/problems.h"

namespace molt::testing_kernels {
namespace {

using Numbers = std::vector<std::int64_t>;

constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct Matches {
  Numbers match;
  Floats similarity;
};

Matches best_matches(const Backend& backend, const Rows& x, const Numbers& sources, const Numbers& targets,
                     bool later_only) {
  Matches found{Numbers(sources.size() + 1, -99), Floats(sources.size() + 1, Rows::kForeign)};
  backend.best_match(x.matrix(), sources, targets, later_only, found.match.data(), found.similarity.data());
  EXPECT_EQ(found.match.back(), -99);
  EXPECT_EQ(found.similarity.back(), Rows::kForeign);
  found.match.pop_back();
  found.similarity.pop_back();
  return found;
}

double cosine(const Rows& x, std::int64_t a, std::int64_t b) {
  double dot = 0, aa = 0, bb = 0;
  for (std::int64_t k = 0; k < x.matrix().cols; ++k) {
    const double p = x.matrix()(a, k), q = x.matrix()(b, k);
    dot += p * q;
    aa += p * p;
    bb += q * q;
  }
  return dot / (std::max(std::sqrt(aa), 1e-12) * std::max(std::sqrt(bb), 1e-12));
}

/// Asserts that `got` is as good as `want`: equal similarities but for rounding, of rows that have them.
void expect_as_good(const Rows& x, const Numbers& sources, const Matches& got, const Matches& want,
                    const std::string& what) {
  // Of a float32 sum of as many terms as there are columns.
  const double rounding = 2e-6 + 2e-10 * static_cast<double>(x.matrix().cols);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    ASSERT_EQ(got.match[i] < 0, want.match[i] < 0) << what << ": source " << i;
    if (want.match[i] < 0) {
      ASSERT_EQ(got.similarity[i], kNothing) << what << ": source " << i;
      continue;
    }
    ASSERT_NEAR(got.similarity[i], want.similarity[i], rounding) << what << ": source " << i;
    ASSERT_NEAR(cosine(x, sources[i], got.match[i]), want.similarity[i], rounding) << what << ": source " << i;
  }
}

/// Even rows and odd rows of [0, n).
std::pair<Numbers, Numbers> even_and_odd(std::int64_t n) {
  std::pair<Numbers, Numbers> halves;
  for (std::int64_t i = 0; i < n; ++i) (i % 2 == 0 ? halves.first : halves.second).push_back(i);
  return halves;
}

class BestMatch : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { use_isa(GetParam()); }
  void TearDown() override { use_isa(available_isas().front()); }

  const std::shared_ptr<const Backend> reference_ = make_backend("reference");
  const std::shared_ptr<const Backend> cpu_ = make_backend("cpu");
};

TEST_P(BestMatch, AgreesWithTheReference) {
  for (const std::int64_t rows : {1, 2, 3, 65, 129, 130, 500}) {
    for (const std::int64_t cols : {1, 2, 16, 33, 300}) {
      for (const bool later_only : {false, true}) {
        Random random(81);
        const Rows x(rows, cols, 5, random);
        const auto [sources, targets] = even_and_odd(rows);
        const std::string what = std::to_string(rows) + "x" + std::to_string(cols) + (later_only ? " later" : "");
        expect_as_good(x, sources, best_matches(*cpu_, x, sources, targets, later_only),
                       best_matches(*reference_, x, sources, targets, later_only), what);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Rows that differ more than rounding: then the very same targets.
TEST_P(BestMatch, FindsTheSameRowsWhereNothingIsClose) {
  Random random(82);
  Rows x(400, 64, 0, random);
  const auto [sources, targets] = even_and_odd(400);
  for (std::size_t i = 0; i < sources.size(); ++i) {  // source i is a noisy target, in a shuffled order
    const std::int64_t near = targets[i * 77 % targets.size()];
    for (std::int64_t k = 0; k < 64; ++k) x.matrix()(sources[i], k) = 3 * x.matrix()(near, k) + 0.1F * random.normal();
  }
  const Matches got = best_matches(*cpu_, x, sources, targets, false);
  for (std::size_t i = 0; i < sources.size(); ++i) EXPECT_EQ(got.match[i], targets[i * 77 % targets.size()]);
  EXPECT_EQ(got.match, best_matches(*reference_, x, sources, targets, false).match);
}

// More columns than panels may hold at a time: targets come in several goes.
TEST_P(BestMatch, HoldsFewTargetsOfWideRows) {
  constexpr std::int64_t kRows = 300, kCols = 40'000;
  Random random(83);
  Rows x(kRows, kCols, 0, random);
  Numbers sources{3, 70, 200, 299}, targets;
  for (std::int64_t i = 0; i < kRows; ++i) {
    if (std::find(sources.begin(), sources.end(), i) == sources.end()) targets.push_back(i);
  }
  // Of one source the best is in the last go, of another in the first, equal to one in the last: the first counts.
  std::copy_n(x.matrix().row(298), kCols, x.matrix().row(3));
  std::copy_n(x.matrix().row(1), kCols, x.matrix().row(70));
  std::copy_n(x.matrix().row(1), kCols, x.matrix().row(290));
  const Matches got = best_matches(*cpu_, x, sources, targets, false);
  expect_as_good(x, sources, got, best_matches(*reference_, x, sources, targets, false), "wide rows");
  EXPECT_EQ(got.match[0], 298);
  EXPECT_EQ(got.match[1], 1);
}

// Rounded cosines say nothing then: every target may be any source's best, more of them than are decided on at a time.
TEST_P(BestMatch, TellsRowsApartThatAreNearlyAlike) {
  constexpr std::int64_t kSources = 800, kTargets = 320, kCols = 24;
  Random random(90);
  Rows x(kSources + kTargets, kCols, 3, random);
  for (std::int64_t i = 1; i < kSources + kTargets; ++i) {
    for (std::int64_t k = 0; k < kCols; ++k) x.matrix()(i, k) = x.matrix()(0, k) + 2e-2F * random.normal();
  }
  Numbers sources, targets;
  for (std::int64_t i = 0; i < kSources + kTargets; ++i) (i % 7 < 5 ? sources : targets).push_back(i);
  for (const bool later_only : {false, true}) {
    const Matches want = best_matches(*reference_, x, sources, targets, later_only);
    const Matches got = best_matches(*cpu_, x, sources, targets, later_only);
    expect_as_good(x, sources, got, want, later_only ? "alike, later" : "alike");
    // In double precision and in float32 the same but for a few of all these.
    std::size_t same = 0;
    for (std::size_t i = 0; i < sources.size(); ++i) same += got.match[i] == want.match[i] ? 1 : 0;
    EXPECT_GT(same, sources.size() * 9 / 10);
  }
}

TEST_P(BestMatch, TakesTheFirstOfEqualTargets) {
  Random random(84);
  Rows x(300, 48, 0, random);
  for (const std::int64_t copy : {9, 70, 71, 200, 299}) std::copy_n(x.matrix().row(0), 48, x.matrix().row(copy));
  const Numbers sources{0, 200};
  Numbers targets{9, 10, 70, 71};
  for (std::int64_t i = 201; i < 300; ++i) targets.push_back(i);
  for (const auto* backend : {&cpu_, &reference_}) {
    EXPECT_EQ(best_matches(**backend, x, sources, targets, false).match, (Numbers{9, 9}));
    EXPECT_EQ(best_matches(**backend, x, sources, targets, true).match, (Numbers{9, 299}));
    EXPECT_EQ(best_matches(**backend, x, {0}, {70, 71, 299}, false).match, (Numbers{70}));
  }
}

TEST_P(BestMatch, ZeroRowsMatchNothingMoreThanAnything) {
  Random random(85);
  Rows x(6, 20, 0, random);
  std::fill_n(x.matrix().row(1), 20, 0.0F);
  for (const auto* backend : {&cpu_, &reference_}) {
    const Matches zero_source = best_matches(**backend, x, {1}, {0, 2, 3}, false);
    EXPECT_EQ(zero_source.match, Numbers{0});
    EXPECT_EQ(zero_source.similarity, Floats{0});
  }
}

TEST_P(BestMatch, NoNumberIsLessThanAny) {
  Random random(86);
  Rows x(140, 40, 0, random);
  x.matrix()(2, 7) = std::nanf("");
  x.matrix()(5, 0) = std::numeric_limits<float>::infinity();
  Numbers targets;
  for (std::int64_t i = 1; i < 140; ++i) targets.push_back(i);
  for (const auto* backend : {&cpu_, &reference_}) {
    const Matches some = best_matches(**backend, x, {0, 2}, targets, false);
    EXPECT_NE(some.match[0], 2);
    EXPECT_NE(some.match[0], 5);
    EXPECT_TRUE(std::isfinite(some.similarity[0]));
    EXPECT_EQ(some.match[1], 1);  // a source of NaNs: the first of equals
    EXPECT_EQ(some.similarity[1], kNothing);
    const Matches none = best_matches(**backend, x, {0}, {2, 5}, false);
    EXPECT_EQ(none.match, Numbers{2});
    EXPECT_EQ(none.similarity, Floats{kNothing});
  }
}

TEST_P(BestMatch, HugeAndTinyRowsHaveDirections) {
  Random random(87);
  Rows x(40, 30, 0, random);
  for (std::int64_t k = 0; k < 30; ++k) {
    x.matrix()(0, k) = 1e30F * x.matrix()(7, k);  // its square is no float
    x.matrix()(1, k) = 1e-9F * x.matrix()(8, k);
  }
  for (const auto* backend : {&cpu_, &reference_}) {
    const Matches got = best_matches(**backend, x, {0, 1}, {6, 7, 8, 9}, false);
    EXPECT_EQ(got.match, (Numbers{7, 8}));
    EXPECT_NEAR(got.similarity[0], 1, 1e-6);
    EXPECT_NEAR(got.similarity[1], 1, 1e-6);
  }
}

TEST_P(BestMatch, WithoutTargetsThereIsNone) {
  Random random(88);
  const Rows x(10, 8, 0, random);
  for (const auto* backend : {&cpu_, &reference_}) {
    const Matches none = best_matches(**backend, x, {1, 2}, {}, false);
    EXPECT_EQ(none.match, (Numbers{-1, -1}));
    EXPECT_EQ(none.similarity, (Floats{kNothing, kNothing}));
    const Matches later = best_matches(**backend, x, {5, 9, 7, 4}, {0, 4, 7}, true);
    EXPECT_EQ(later.match, (Numbers{7, -1, -1, 7}));
    EXPECT_EQ(later.similarity[2], kNothing);
    EXPECT_TRUE(best_matches(**backend, x, {}, {0, 4}, false).match.empty());
  }
}

TEST_P(BestMatch, GivesTheSameBitsForAnyNumberOfThreads) {
  Random random(89);
  const Rows x(700, 100, 1, random);
  const auto [sources, targets] = even_and_odd(700);
  const int before = num_threads();
  for (const bool later_only : {false, true}) {
    set_num_threads(1);
    const Matches one = best_matches(*cpu_, x, sources, targets, later_only);
    for (const int threads : {2, 3, 7}) {
      set_num_threads(threads);
      const Matches many = best_matches(*cpu_, x, sources, targets, later_only);
      EXPECT_EQ(many.match, one.match);
      expect_same_bits(many.similarity, one.similarity, std::to_string(threads) + " threads");
    }
  }
  set_num_threads(before);
}

RC_GTEST_PROP(BestMatches, AreAsGoodAsTheReference, ()) {
  use_isa(*rc::gen::elementOf(available_isas()));
  const auto rows = *rc::gen::inRange<std::int64_t>(0, 200);
  Random random(*rc::gen::arbitrary<std::uint32_t>());
  const Rows x(rows, *rc::gen::inRange<std::int64_t>(1, 80), 2, random, *rc::gen::element(1e-3F, 1.0F, 1e3F));
  Numbers sources, targets;  // some rows are neither
  for (std::int64_t i = 0; i < rows; ++i) {
    const float kind = random.uniform(0, 1);
    if (kind < 0.4F) sources.push_back(i);
    if (kind > 0.5F) targets.push_back(i);
  }
  std::shuffle(sources.begin(), sources.end(), std::mt19937(1));
  const bool later_only = *rc::gen::arbitrary<bool>();
  const Matches want = best_matches(*make_backend("reference"), x, sources, targets, later_only);
  expect_as_good(x, sources, best_matches(*make_backend("cpu"), x, sources, targets, later_only), want, "random");
  RC_ASSERT(!testing::Test::HasFailure());
  use_isa(available_isas().front());
}

INSTANTIATE_TEST_SUITE_P(Isas, BestMatch, testing::ValuesIn(available_isas()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace molt::testing_kernels
