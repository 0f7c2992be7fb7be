// Scans of backends that compute them with the precision of bfloat16 products for models whose weights are in it.
#include <gtest/gtest.h>

#include "tests/kernels/problems.h"
#include "tests/support/backends.h"

namespace molt::testing_kernels {
namespace {

class NarrowScans : public testing::TestWithParam<std::string> {};

TEST_P(NarrowScans, AreWithinTheRoundingOfTheirInputs) {
  MOLT_NEEDS_BACKEND(GetParam());
  const auto reference = make_backend("reference");
  const auto narrow = make_backend(GetParam())->suited_to(DType::bf16);
  ASSERT_NE(narrow, nullptr);
  for (const Steps steps : {Steps::usual, Steps::tiny, Steps::huge, Steps::mixed}) {
    // The last two have heads enough for a device to take two at a time.
    for (const SsdExtents e : {SsdExtents{1, 64, 128, 1},
                               {4, 19, 7, 2},
                               {2, 80, 33, 2},
                               {3, 64, 200, 1},
                               {2, 80, 32, 2},
                               {4, 48, 64, 1},
                               {1, 16, 96, 1},
                               {64, 21, 40, 2},
                               {64, 8, 72, 1}}) {
      for (const auto& lengths : std::vector<std::vector<std::int64_t>>{{200}, {9, 0, 64, 1, 130}}) {
        const std::int64_t rows = offsets_of(lengths).back();
        const SsdProblem problem(rows, e, {.steps = steps, .D = true, .m = true, .seed = 31});
        const auto want = problem.run_batch(*reference, lengths);
        const auto got = problem.run_batch(*narrow, lengths);
        ASSERT_TRUE(got.intact);
        // Three roundings of 2^-9 each, of sums of many; a device rounds what C B' has decayed to, too. With many heads
        // the worst is one of several hundred thousand.
        const double tolerance = e.heads < 64 && GetParam() == "cpu" ? 0.04 : 0.06;
        expect_close(got.y, want.y, tolerance, "y");
        for (std::size_t s = 0; s < lengths.size(); ++s) {
          expect_close(got.states[s], want.states[s], tolerance, "state " + std::to_string(s));
        }
        if (HasFatalFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, NarrowScans, testing::Values("cpu", "staged:cuda"),
                         [](const auto& c) { return c.param == "cpu" ? "cpu" : "cuda"; });

}  // namespace
}  // namespace molt::testing_kernels
