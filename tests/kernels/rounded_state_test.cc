// States of the scans in bfloat16: every instruction set against the reference, and what random rounding must be.
#include <gtest/gtest.h>

#include <limits>

#include "kernels/cpu/rounded_state.h"
#include "kernels/cpu/select.h"
#include "tests/kernels/isas.h"
#include "tests/kernels/problems.h"

namespace molt::testing_kernels {
namespace {

/// Asserts that states in bfloat16 are the same but where the values before rounding differ in their last digits and
/// chance falls between them: then they are neighbours.
void expect_neighbours(const Floats& got, const Floats& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  std::size_t different = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (got[i] == want[i]) continue;
    ++different;
    // Small ones are sums of large ones: their last digits are those of the sum's terms.
    ASSERT_LE(std::fabs(got[i] - want[i]), std::fabs(want[i]) / 127 + 1e-4F)
        << what << ": element " << i << ": got " << got[i] << ", want " << want[i];
  }
  EXPECT_LE(different, 2 + want.size() / 50) << what << ": of " << want.size();
}

void compare_with_reference(const SequenceProblem& problem, const std::vector<std::int64_t>& lengths,
                            const std::string& name) {
  const auto want = problem.run_batch(*make_backend("reference"), lengths);
  for (const std::string& isa : testing_kernels::isas_of_other_ops()) {
    use_isa(isa);
    const auto got = problem.run_batch(*make_backend("cpu"), lengths);
    expect_close(got.y, want.y, 1e-5, name + ": y on " + isa);
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      expect_neighbours(got.states[s], want.states[s], name + ": state on " + isa);
    }
    EXPECT_TRUE(got.intact) << name << " on " << isa;
  }
  use_isa(available_isas().front());
}

const std::vector<std::vector<std::int64_t>> kBatches{{1}, {2}, {3}, {7}, {200}, {1, 1, 1}, {63, 0, 1, 2, 130, 1}};

std::vector<ScanOptions> options_in_bf16() {
  std::vector<ScanOptions> all{{Steps::usual, true, false, 41},
                               {Steps::tiny, true, true, 42},
                               {Steps::mixed, false, true, 43, Wanted::some, true},
                               {Steps::usual, true, true, 44, Wanted::none, true}};
  for (ScanOptions& options : all) options.rounded = true;
  return all;
}

TEST(RoundedState, SelectiveScanIsTheReferences) {
  for (const ScanOptions& options : options_in_bf16()) {
    for (const auto& lengths : kBatches) {
      const std::int64_t rows = offsets_of(lengths).back();
      compare_with_reference(ScanProblem(rows, 37, 16, options), lengths, "16 states");
      compare_with_reference(ScanProblem(rows, 600, 16, options), lengths, "600 channels");
      compare_with_reference(ScanProblem(rows, 70, 5, options), lengths, "5 states");
    }
  }
}

TEST(RoundedState, SsdIsTheReferences) {
  for (const ScanOptions& options : options_in_bf16()) {
    for (const auto& lengths : kBatches) {
      const std::int64_t rows = offsets_of(lengths).back();
      compare_with_reference(SsdProblem(rows, {2, 64, 128, 1}, options), lengths, "P=64");
      compare_with_reference(SsdProblem(rows, {4, 19, 7, 2}, options), lengths, "P=19");
      compare_with_reference(SsdProblem(rows, {12, 80, 20, 3}, options), lengths, "P=80");
    }
  }
}

// Otherwise "is the reference's" would hold for states that were never rounded, or rounded to nearest.
TEST(RoundedState, IsAValueOfBfloat16AndNotAlwaysTheNearest) {
  ScanOptions options{Steps::usual, true, false, 45};
  const auto exact = SsdProblem(1, {2, 64, 128, 1}, options).run_batch(*make_backend("cpu"), {1});
  options.rounded = true;
  const SsdProblem problem(1, {2, 64, 128, 1}, options);
  const Floats start = problem.initial_state(0);
  const auto got = problem.run_batch(*make_backend("cpu"), {1});
  std::size_t changed = 0;
  for (std::size_t i = 1; i + 1 < start.size(); ++i) {
    EXPECT_EQ(BFloat16::from_float(got.states[0][i]).to_float(), got.states[0][i]);
    if (got.states[0][i] != start[i]) ++changed;
  }
  EXPECT_GT(changed, start.size() / 2);
  expect_close(got.y, exact.y, 2e-2, "y from a start that was rounded");
}

TEST(RoundedState, EveryInstructionSetRoundsAsTheReference) {
  Random random(46);
  for (const std::int64_t n : {1, 3, 4, 15, 16, 17, 64, 1000}) {
    Floats values = random.normals(n + 8);
    values[0] = 1e-42F;  // a subnormal
    const float special[] = {std::nanf(""),
                             -std::numeric_limits<float>::infinity(),
                             0.0F,
                             -0.0F,
                             std::numeric_limits<float>::max(),
                             std::bit_cast<float>(0x7fffffffU),
                             std::bit_cast<float>(0xffc00001U)};
    std::copy(std::begin(special), std::end(special), values.begin() + n);
    for (const std::uint32_t key : {0U, 1U, 0xdeadbeefU}) {
      for (const std::int64_t column : {0, 3, 100'003}) {
        for (const std::string& isa : testing_kernels::isas_of_other_ops()) {
          constexpr std::int64_t kRows = 3;
          const auto columns = std::ssize(values);
          std::vector<BFloat16> memory(static_cast<std::size_t>(1 + kRows * columns));
          Floats wide;
          for (std::int64_t row = 0; row < kRows; ++row) wide.insert(wide.end(), values.begin(), values.end());
          const RoundedState state{memory.data(), key};
          const RoundedColumns all{state, 1, columns, column, columns, kRows};
          all.round_back(*kernels_for(isa), wide.data());
          for (std::int64_t i = 0; i < kRows * columns; ++i) {
            const float value = wide[static_cast<std::size_t>(i)];
            const BFloat16 expected = round_at_random(value, key, static_cast<std::uint32_t>(column + i % columns),
                                                      static_cast<std::uint32_t>(i / columns));
            EXPECT_EQ(memory[static_cast<std::size_t>(1 + i)].bits, expected.bits) << isa << ", " << value;
          }
          all.widen(*kernels_for(isa), wide.data());
          for (std::size_t i = 0; i < wide.size(); ++i) {
            EXPECT_EQ(std::bit_cast<std::uint32_t>(wide[i]), std::uint32_t{memory[1 + i].bits} << 16) << isa;
          }
        }
      }
    }
  }
}

TEST(RoundedState, KeepsWhatBfloat16HoldsAndStaysWhatItIs) {
  for (std::uint32_t bits = 0; bits < 0x10000; bits += 7) {
    const BFloat16 value{static_cast<std::uint16_t>(bits)};
    const BFloat16 rounded = round_at_random(value.to_float(), bits * 77, bits, bits / 7);
    if (std::isnan(value.to_float())) {
      EXPECT_TRUE(std::isnan(rounded.to_float()));
    } else {
      EXPECT_EQ(rounded.bits, value.bits);
    }
  }
}

// Over keys (tokens, layers), over columns and down them: the mean of what a value is rounded to is the value.
TEST(RoundedState, IsRightOnAverage) {
  constexpr std::uint32_t kCount = 20000;
  Random random(47);
  for (int i = 0; i < 20; ++i) {
    const float value = random.normal();
    const float place = std::ldexp(1.0F, std::ilogb(value) - 7);
    for (const int over : {0, 1, 2}) {
      double sum = 0;
      for (std::uint32_t k = 0; k < kCount; ++k) {
        const BFloat16 rounded = over == 0   ? round_at_random(value, k * 0x9e3779b9U + 5, 17, 3)
                                 : over == 1 ? round_at_random(value, 5, k, 3)
                                             : round_at_random(value, 5, 17, k);
        EXPECT_LE(std::fabs(rounded.to_float() - value), place);
        sum += static_cast<double>(rounded.to_float()) - value;
      }
      // Four standard errors of a draw between two neighbours, at most half a place each.
      EXPECT_LE(std::fabs(sum / kCount), 4 * 0.5 * place / std::sqrt(kCount)) << value << ", " << over;
    }
  }
}

// What a state loses a step by less than half a place is lost all the same: rounding to nearest would keep it forever.
TEST(RoundedState, DecaysSlowly) {
  constexpr std::int64_t kSteps = 2000;
  constexpr std::size_t kChannels = 64;
  const auto backend = make_backend("cpu");
  std::vector<BFloat16> state(kChannels, BFloat16::from_float(1));
  const Floats x(kChannels, 0), dt(kChannels, 1e-3F), A(kChannels, -1), B{1}, C{1};
  Floats y(kChannels);
  const std::vector<std::int64_t> offsets{0, 1};
  const auto channels = static_cast<std::int64_t>(kChannels);
  for (std::uint32_t step = 0; step < kSteps; ++step) {
    const RoundedState rounded{state.data(), step * 0x85ebca6bU};
    backend->selective_scan({x.data(), 1, channels}, {dt.data(), 1, channels}, {A.data(), 1, channels},
                            {B.data(), 1, 1}, {C.data(), 1, 1}, nullptr,
                            {.offsets = offsets, .states = {}, .rounded = {&rounded, 1}}, {y.data(), 1, channels});
  }
  double mean = 0;
  for (const BFloat16 v : state) mean += v.to_float() / static_cast<double>(kChannels);
  EXPECT_NEAR(mean, std::exp(-2.0), 0.1 * std::exp(-2.0));
}

}  // namespace
}  // namespace molt::testing_kernels
