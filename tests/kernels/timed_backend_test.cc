// What TimedBackend counts: every op once, under its name and shape, with the bytes and FLOPs that its contract asks
// for. That its ops compute what the backend within computes is shown with all other backends' ops.
#include "kernels/timed_backend.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "molt/error.h"
#include "tests/kernels/problems.h"

namespace molt::testing_kernels {
namespace {

class TimedBackendTest : public testing::Test {
 protected:
  static constexpr std::int64_t kRows = 3;

  /// The one total of what has run.
  OpTotal total() {
    const std::vector<OpTotal> totals = timed_.take_totals();
    EXPECT_EQ(totals.size(), 1U);
    return totals.empty() ? OpTotal{} : totals.front();
  }

  void expect_total(const std::string& op, const std::string& shape, double bytes, double flops) {
    const OpTotal found = total();
    EXPECT_EQ(found.op, op);
    EXPECT_EQ(found.shape, shape) << op;
    EXPECT_EQ(found.calls, 1) << op;
    EXPECT_GT(found.seconds, 0) << op;
    EXPECT_EQ(found.cost.bytes, bytes) << op;
    EXPECT_EQ(found.cost.flops, flops) << op;
  }

  Random random_{1};
  TimedBackend timed_{make_backend("reference")};
};

TEST_F(TimedBackendTest, CountsAProductsWeightsOnce) {
  const Tensor weight = Tensor::zeros(DType::f32, {64, 32});
  const auto packed = timed_.pack(weight, DType::bf16);
  Rows x(kRows, 32, 0, random_), y(kRows, 64, 0);
  timed_.matmul(x.matrix(), *packed, nullptr, y.matrix(), 0);
  const auto bytes = static_cast<double>(packed->bytes());
  expect_total("matmul", "32 -> 64", bytes + 4.0 * kRows * (32 + 64), 2.0 * kRows * 32 * 64);
  Rows half(kRows, 16, 0);
  timed_.matmul(x.matrix(), *packed, nullptr, half.matrix(), 48);
  expect_total("matmul", "32 -> 16", bytes / 4 + 4.0 * kRows * (32 + 16), 2.0 * kRows * 32 * 16);
}

TEST_F(TimedBackendTest, CountsOpsOfRows) {
  constexpr std::int64_t kCols = 8;
  const double n = kRows * kCols;
  Rows x(kRows, kCols, 5, random_), z(kRows, kCols, 0, random_), y(kRows, kCols, 0);
  const Floats weight = random_.normals(kCols);
  timed_.rms_norm(x.matrix(), weight.data(), 1e-5F, y.matrix());
  expect_total("rms_norm", "8", 4 * (2 * n + kCols), 4 * n);
  timed_.add_rms_norm(x.matrix(), z.matrix(), weight.data(), 1e-5F, y.matrix());
  expect_total("add_rms_norm", "8", 4 * (4 * n + kCols), 5 * n);
  timed_.gated_rms_norm(x.matrix(), z.matrix(), weight.data(), 1e-5F, kCols, false, y.matrix());
  expect_total("gated_rms_norm", "8", 4 * (3 * n + kCols), 30 * n);
  timed_.layer_norm(x.matrix(), weight.data(), weight.data(), 1e-5F, y.matrix());
  expect_total("layer_norm", "8", 4 * (2 * n + 2 * kCols), 7 * n);
  timed_.relu(x.matrix(), y.matrix());
  expect_total("relu", "8", 4 * 2 * n, n);
  timed_.silu_gate(x.matrix(), z.matrix(), y.matrix());
  expect_total("silu_gate", "8", 4 * 3 * n, 26 * n);
  timed_.softplus(x.matrix(), weight.data(), 0, 1, y.matrix());
  expect_total("softplus", "8", 4 * (2 * n + kCols), 42 * n);
  const Tensor table = Tensor::zeros(DType::f16, {5, kCols});
  timed_.embed(table, std::vector<TokenId>{4, 0, 2}, y.matrix());
  expect_total("embed", "8", (2 + 4) * n, 0);
}

TEST_F(TimedBackendTest, CountsOpsAlongSequences) {
  constexpr std::int64_t kChannels = 8, kTaps = 4, kStates = 2;
  const double n = kRows * kChannels;
  Rows x(kRows, kChannels, 0, random_), y(kRows, kChannels, 0), taps(kTaps, kChannels, 0, random_);
  Floats state(64, 0.0F);
  float* const states = state.data();
  const std::vector<std::int64_t> offsets{0, kRows};
  timed_.causal_conv(x.matrix(), taps.matrix(), nullptr, offsets, {&states, 1}, y.matrix());
  expect_total("causal_conv", "8 x 4", 4 * (2 * n + kTaps * kChannels + 2 * 3 * kChannels), (2 * kTaps + 25) * n);

  Rows dt(kRows, kChannels, 0), A(kStates, kChannels, 0), B(kRows, kStates, 0, random_), C(kRows, kStates, 0, random_);
  dt.fill([&] { return 0.1F; });
  A.fill([&] { return -1.0F; });
  timed_.selective_scan(x.matrix(), dt.matrix(), A.matrix(), B.matrix(), C.matrix(), nullptr,
                        {.offsets = offsets, .states = {&states, 1}}, y.matrix());
  expect_total("selective_scan", "8 x 2", 4 * (3 * n + 3 * kStates * kChannels + 2 * kRows * kStates),
               n * (kStates * 21 + 3));
  Floats c(kRows);
  timed_.selective_scan_contribution(x.matrix(), dt.matrix(), A.matrix(), B.matrix(), nullptr, offsets, c.data());
  expect_total("selective_scan_contribution", "8 x 2", 4 * (2 * n + kStates * kChannels + kRows * kStates + kRows),
               n * (kStates * 19 + 5));

  Rows steps(kRows, 2, 0);
  steps.fill([&] { return 0.1F; });
  const Floats rates{-1, -2};
  timed_.ssd(x.matrix(), steps.matrix(), rates, B.matrix(), C.matrix(), 1, {},
             {.offsets = offsets, .states = {&states, 1}}, y.matrix());
  expect_total("ssd", "2 x 4 x 2", 4 * (2 * n + kRows * 2 + 2 * kRows * kStates + 2 * kChannels * kStates),
               5 * n * kStates);
  timed_.ssd_contribution(x.matrix(), steps.matrix(), rates, B.matrix(), 1, nullptr, offsets, c.data());
  expect_total("ssd_contribution", "2 x 4 x 2", 4 * (n + kRows * 2 + kRows * kStates + kRows),
               2 * n + 2 * kRows * kStates + 21 * kRows * 2);
}

TEST_F(TimedBackendTest, CountsAttentionByWhatIsSeen) {
  constexpr std::int64_t kHeads = 4, kKvHeads = 2, kWidth = 6;
  const KvShape kv{kKvHeads, kWidth};
  Rows q(kRows, kHeads * kWidth, 0, random_), y(kRows, kHeads * kWidth, 0);
  Rows k(kRows, kKvHeads * kWidth, 0, random_), v(kRows, kKvHeads * kWidth, 0, random_);
  const std::vector<std::int64_t> offsets{0, kRows, kRows};
  const std::vector<std::int64_t> first{10, 99};
  timed_.rope(q.matrix(), kHeads, std::vector<double>{1.0, 0.1}, false, offsets, first);
  expect_total("rope", "4 x 6", 4 * 2 * kRows * kHeads * 4, 3 * kRows * kHeads * 4);
  Floats memory(static_cast<std::size_t>(kv.block_bytes()) / sizeof(float), 0.0F);
  std::byte* const blocks[] = {reinterpret_cast<std::byte*>(memory.data()), nullptr};
  const std::vector<KvSequence> caches{{blocks, 0, 10}, {blocks, 0, 99}};  // the second takes no part
  timed_.attention(q.matrix(), k.matrix(), v.matrix(), kv, 1.0F, offsets, caches, y.matrix());
  const double tokens = 10 + kRows;
  const double pairs = 10 * kRows + kRows * (kRows + 1) / 2;
  expect_total(
      "attention", "4 x 2 x 6",
      4 * (2 * kRows * kHeads * kWidth + 2 * kRows * kKvHeads * kWidth + 2 * (tokens + kRows) * kKvHeads * kWidth),
      pairs * kHeads * (4 * kWidth + 25));
}

TEST_F(TimedBackendTest, CountsOpsOnLogits) {
  Rows p(kRows, 8, 0, random_), q(kRows, 8, 0, random_);
  double sums[kRows];
  timed_.log_sum_exp(p.matrix(), sums);
  expect_total("log_sum_exp", "8", 4 * kRows * 8 + 8 * kRows, 25 * kRows * 8);
  timed_.divergence(p.matrix(), q.matrix(), sums);
  expect_total("divergence", "8", 4 * 2 * kRows * 8 + 8 * kRows, 25 * kRows * 8);
}

TEST_F(TimedBackendTest, CountsOpsOfReduction) {
  constexpr std::int64_t kCols = 8;
  Rows x(6, kCols, 0, random_), some(2, kCols, 0, random_);
  Floats scores(6);
  timed_.importance(x.matrix(), Importance::l1, scores.data());
  expect_total("importance", "8", 4 * (6 * kCols + 6), 2 * 6 * kCols);
  const std::vector<std::int64_t> sources{0, 2, 5}, targets{1, 3, 4};
  std::vector<std::int64_t> match(3);
  timed_.best_match(x.matrix(), sources, targets, false, match.data(), scores.data());
  expect_total("best_match", "8", 4 * 6 * kCols, 2 * 9 * kCols);
  timed_.best_match(x.matrix(), sources, targets, true, match.data(), scores.data());
  expect_total("best_match", "8", 4 * 6 * kCols, 2 * (3 + 2 + 0) * kCols);
  timed_.gather_rows(x.matrix(), std::vector<std::int64_t>{1, 4}, some.matrix());
  expect_total("gather_rows", "8", 4 * 2 * 2 * kCols, 0);
  timed_.scatter_rows(some.matrix(), std::vector<std::int64_t>{1, 4}, x.matrix());
  expect_total("scatter_rows", "8", 4 * 2 * 2 * kCols, 0);
  timed_.merge_rows(x.matrix(), std::vector<RowMerge>{{0, 1}, {2, 1}}, nullptr);
  expect_total("merge_rows", "8", 4 * 3 * 2 * kCols, 3 * 2 * kCols);
}

TEST_F(TimedBackendTest, AddsCallsOfOneShapeAndStartsAnew) {
  Rows narrow(2, 8, 0, random_), wide(2, 16, 0, random_);
  const auto start = std::chrono::steady_clock::now();
  timed_.rms_norm(wide.matrix(), nullptr, 1e-5F, wide.matrix());
  timed_.rms_norm(narrow.matrix(), nullptr, 1e-5F, narrow.matrix());
  timed_.rms_norm(wide.matrix().row_range(0, 1), nullptr, 1e-5F, wide.matrix().row_range(0, 1));
  const double whole = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::vector<OpTotal> totals = timed_.take_totals();
  ASSERT_EQ(totals.size(), 2U);
  EXPECT_EQ(totals[0].shape, "16");
  EXPECT_EQ(totals[0].calls, 2);
  EXPECT_EQ(totals[0].cost.flops, 4.0 * 3 * 16);
  EXPECT_EQ(totals[1].calls, 1);
  EXPECT_LE(totals[0].seconds + totals[1].seconds, whole);
  EXPECT_TRUE(timed_.take_totals().empty());
}

TEST_F(TimedBackendTest, CountsEveryThreadsCalls) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this] {
      Rows x(1, 8, 0);
      x.fill([] { return 1.0F; });
      for (int k = 0; k < 100; ++k) timed_.rms_norm(x.matrix(), nullptr, 1e-5F, x.matrix());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(total().calls, 400);
}

TEST(MakeBackend, PutsATimerAroundAnyBackend) {
  EXPECT_NE(dynamic_cast<const TimedBackend*>(make_backend("timed:reference").get()), nullptr);
  EXPECT_EQ(make_backend("timed:cpu")->name(), "cpu");
  EXPECT_THROW(make_backend("timed:timed:cpu"), Error);
  EXPECT_THROW(make_backend("timed:gpu"), Error);
}

}  // namespace
}  // namespace molt::testing_kernels
