#include "base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace molt {
namespace {

class ParallelFor : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    before_ = num_threads();
    set_num_threads(GetParam());
  }
  void TearDown() override { set_num_threads(before_); }

 private:
  int before_ = 1;
};

TEST_P(ParallelFor, VisitsEveryIndexOnce) {
  for (const std::int64_t n : {0, 1, 2, 7, 64, 1000}) {
    for (const std::int64_t grain : {1, 3, 1000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
      parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
        EXPECT_LE(end - begin, grain);
        for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
      });
      for (const auto& count : visits) EXPECT_EQ(count, 1);
    }
  }
}

TEST_P(ParallelFor, RethrowsAndStaysUsable) {
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(parallel_for(100, 1,
                              [](std::int64_t begin, std::int64_t) {
                                if (begin == 37) throw std::runtime_error("37");
                              }),
                 std::runtime_error);
    std::atomic<int> sum{0};
    parallel_for(100, 1, [&](std::int64_t begin, std::int64_t) { sum += static_cast<int>(begin); });
    EXPECT_EQ(sum, 4950);
  }
}

TEST_P(ParallelFor, NestedCallsRunInPlace) {
  std::atomic<int> count{0};
  parallel_for(8, 1,
               [&](std::int64_t, std::int64_t) { parallel_for(8, 1, [&](std::int64_t, std::int64_t) { ++count; }); });
  EXPECT_EQ(count, 64);
}

TEST_P(ParallelFor, ManyCallersAtOnce) {
  std::vector<std::thread> callers;
  std::atomic<int> count{0};
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) parallel_for(10, 1, [&](std::int64_t, std::int64_t) { ++count; });
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(count, 4 * 200 * 10);
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelFor, testing::Values(1, 2, 5));

}  // namespace
}  // namespace molt
