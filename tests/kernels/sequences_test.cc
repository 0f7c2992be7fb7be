// What must hold for every op along sequences: cutting a sequence anywhere and going on from the state changes nothing
// but rounding, and what else is in the batch changes no bit.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "kernels/cpu/select.h"
#include "tests/kernels/isas.h"
#include "tests/kernels/problems.h"

namespace molt::testing_kernels {
namespace {

/// A random problem of any of the ops, with `rows` rows.
std::unique_ptr<SequenceProblem> any_problem(std::int64_t rows, bool rounded = false) {
  const auto seed = *rc::gen::arbitrary<std::uint32_t>();
  ScanOptions options{*rc::gen::element(Steps::usual, Steps::tiny, Steps::huge, Steps::mixed),
                      *rc::gen::arbitrary<bool>(), *rc::gen::arbitrary<bool>(), seed};
  options.rounded = rounded;
  switch (*rc::gen::inRange(0, 3)) {
    case 0:
      return std::make_unique<ConvProblem>(rows, *rc::gen::inRange<std::int64_t>(1, 100),
                                           *rc::gen::inRange<std::int64_t>(1, 7), *rc::gen::arbitrary<bool>(), seed);
    case 1:
      return std::make_unique<ScanProblem>(rows, *rc::gen::inRange<std::int64_t>(1, 100),
                                           *rc::gen::element<std::int64_t>(1, 5, 16, 20), options);
    default: {
      const auto groups = *rc::gen::inRange<std::int64_t>(1, 4);
      return std::make_unique<SsdProblem>(
          rows,
          SsdExtents{groups * *rc::gen::inRange<std::int64_t>(1, 4), *rc::gen::inRange<std::int64_t>(1, 100),
                     *rc::gen::inRange<std::int64_t>(1, 40), groups},
          options);
    }
  }
}

struct Implementation {
  std::shared_ptr<const Backend> backend;
  std::string name;
};

/// The reference, or the CPU on any instruction set (which stays chosen until the next call).
Implementation any_implementation() {
  std::vector<std::string> names = testing_kernels::isas_of_other_ops();
  names.emplace_back("reference");
  const std::string name = *rc::gen::elementOf(names);
  if (name == "reference") return {make_backend("reference"), name};
  use_isa(name);
  return {make_backend("cpu"), name};
}

RC_GTEST_PROP(Sequences, MayBeCutAnywhere, ()) {
  const Implementation with = any_implementation();
  const auto length = *rc::gen::inRange<std::int64_t>(1, 200);
  const auto cut = *rc::gen::inRange<std::int64_t>(0, length + 1);
  const auto problem = any_problem(length);
  const auto whole = problem->run_batch(*with.backend, {length});
  const auto pieces = problem->run_pieces(*with.backend, {{0, cut}, {0, length - cut}}, 1);
  expect_close(pieces.y, whole.y, 1e-5, "y on " + with.name);
  expect_close(pieces.states[0], whole.states[0], 1e-5, "state on " + with.name);
  RC_ASSERT(!testing::Test::HasFailure());
}

RC_GTEST_PROP(Sequences, DoNotKnowTheirBatch, ()) {
  const Implementation with = any_implementation();
  const auto lengths = *rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 100));
  const std::vector<std::int64_t> offsets = offsets_of(lengths);
  const auto problem = any_problem(offsets.back(), *rc::gen::arbitrary<bool>());
  const auto batch = problem->run_batch(*with.backend, lengths);
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    Floats state = problem->initial_state(s);
    float* const pointer = state.data() + 1;
    Rows y(lengths[s], problem->out_cols(), 0);
    problem->run(*with.backend, offsets[s], std::vector<std::int64_t>{0, lengths[s]}, {&pointer, 1}, y.matrix());
    expect_same_bits(state, batch.states[s], "state on " + with.name);
    const auto begin = batch.y.begin() + offsets[s] * problem->out_cols();
    expect_same_bits(y.values(), Floats(begin, begin + lengths[s] * problem->out_cols()), "y on " + with.name);
    RC_ASSERT(!testing::Test::HasFailure());
  }
}

/// The rows of `result` that `problem` wants.
Floats wanted_rows(const SequenceProblem& problem, const Floats& y) {
  Floats rows;
  const auto cols = static_cast<std::size_t>(problem.out_cols());
  for (std::size_t t = 0; t * cols < y.size(); ++t) {
    if (problem.wanted(static_cast<std::int64_t>(t))) {
      rows.insert(rows.end(), y.begin() + static_cast<std::ptrdiff_t>(t * cols),
                  y.begin() + static_cast<std::ptrdiff_t>((t + 1) * cols));
    }
  }
  return rows;
}

// Rows whose y nobody wants change no bit of the others and of the states, and may even hold NaNs in C.
RC_GTEST_PROP(Sequences, StatesAndWantedRowsDoNotKnowWhatIsWanted, ()) {
  const Implementation with = any_implementation();
  const auto lengths = *rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 300));
  const std::int64_t rows = offsets_of(lengths).back();
  ScanOptions options{*rc::gen::element(Steps::usual, Steps::mixed),
                      true,
                      *rc::gen::arbitrary<bool>(),
                      *rc::gen::arbitrary<std::uint32_t>(),
                      Wanted::all,
                      *rc::gen::arbitrary<bool>(),
                      *rc::gen::arbitrary<bool>()};
  const bool mamba2 = *rc::gen::arbitrary<bool>();
  const auto states = *rc::gen::element<std::int64_t>(1, 16, 20);
  const auto channels = *rc::gen::inRange<std::int64_t>(1, 70);
  const auto make = [&](Wanted wanted) -> std::unique_ptr<SequenceProblem> {
    options.wanted = wanted;
    if (mamba2) return std::make_unique<SsdProblem>(rows, SsdExtents{4, channels, states, 2}, options);
    return std::make_unique<ScanProblem>(rows, channels, states, options);
  };
  const auto all = make(Wanted::all)->run_batch(*with.backend, lengths);
  for (const Wanted wanted : {Wanted::none, Wanted::some, Wanted::stretches}) {
    const auto problem = make(wanted);
    const auto some = problem->run_batch(*with.backend, lengths);
    expect_same_bits(wanted_rows(*problem, some.y), wanted_rows(*problem, all.y), "y on " + with.name);
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      expect_same_bits(some.states[s], all.states[s], "state on " + with.name);
    }
    RC_ASSERT(some.intact && !testing::Test::HasFailure());
  }
}

TEST(Sequences, ZeroStepsKeepEveryBitOfTheState) {
  const std::vector<std::int64_t> lengths{1, 5, 200};
  const std::int64_t rows = offsets_of(lengths).back();
  std::vector<std::string> names = testing_kernels::isas_of_other_ops();
  names.emplace_back("reference");
  for (const std::string& name : names) {
    if (name != "reference") use_isa(name);
    const auto backend = make_backend(name == "reference" ? name : "cpu");
    for (const Wanted wanted : {Wanted::all, Wanted::none, Wanted::stretches}) {
      const ScanOptions options{Steps::zero, true, true, 33, wanted};
      ScanOptions in_bf16 = options;
      in_bf16.rounded = true;
      const ScanProblem scan(rows, 37, 16, options), narrow(rows, 37, 3, options);
      const SsdProblem ssd(rows, {4, 19, 16, 2}, options);
      const ScanProblem rounded_scan(rows, 37, 16, in_bf16);
      const SsdProblem rounded_ssd(rows, {4, 19, 16, 2}, in_bf16);
      for (const SequenceProblem* problem :
           {static_cast<const SequenceProblem*>(&scan), static_cast<const SequenceProblem*>(&narrow),
            static_cast<const SequenceProblem*>(&ssd), static_cast<const SequenceProblem*>(&rounded_scan),
            static_cast<const SequenceProblem*>(&rounded_ssd)}) {
        const auto result = problem->run_batch(*backend, lengths);
        for (std::size_t s = 0; s < lengths.size(); ++s) {
          expect_same_bits(result.states[s], problem->initial_state(s), "state on " + name);
        }
      }
    }
  }
  use_isa(available_isas().front());
}

TEST(Sequences, LongSsdStaysAccurate) {
  constexpr std::int64_t kRows = 4000;
  for (const Steps steps : {Steps::usual, Steps::tiny, Steps::mixed}) {
    const SsdProblem problem(kRows, {2, 64, 64, 1}, {steps, true, true, 31});
    const auto want = problem.run_batch(*make_backend("reference"), {kRows});
    for (const std::string& isa : testing_kernels::isas_of_other_ops()) {
      use_isa(isa);
      const auto got = problem.run_batch(*make_backend("cpu"), {kRows});
      expect_close(got.y, want.y, 1e-5, "y on " + isa);
      expect_close(got.states[0], want.states[0], 1e-5, "state on " + isa);
    }
  }
  use_isa(available_isas().front());
}

TEST(Sequences, LongSelectiveScanStaysAccurate) {
  constexpr std::int64_t kRows = 4000;
  for (const Steps steps : {Steps::usual, Steps::tiny, Steps::mixed}) {
    const ScanProblem problem(kRows, 32, 16, {steps, true, true, 32});
    const auto want = problem.run_batch(*make_backend("reference"), {kRows});
    for (const std::string& isa : testing_kernels::isas_of_other_ops()) {
      use_isa(isa);
      const auto got = problem.run_batch(*make_backend("cpu"), {kRows});
      // A decay near one is rounded to float32 4000 times over, in any implementation that holds it in float32.
      expect_close(got.y, want.y, 5e-5, "y on " + isa);
      expect_close(got.states[0], want.states[0], 5e-5, "state on " + isa);
    }
  }
  use_isa(available_isas().front());
}

}  // namespace
}  // namespace molt::testing_kernels
