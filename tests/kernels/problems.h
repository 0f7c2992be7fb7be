// Random calls of the ops, and ways to run and to compare them: what the kernels' tests have in common.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/support/offsets.h"

namespace molt::testing_kernels {

using Floats = std::vector<float>;

/// Reproducible random numbers.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  float normal() { return static_cast<float>(normal_(engine_)); }
  float uniform(float low, float high) { return low + (high - low) * static_cast<float>(uniform_(engine_)); }
  Floats normals(std::int64_t n, float scale = 1) {
    Floats values(static_cast<std::size_t>(n));
    for (float& v : values) v = scale * normal();
    return values;
  }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<double> normal_;
  std::uniform_real_distribution<double> uniform_;
};

/// Rows with `gap` foreign floats after each, as a slice of a wider matrix has. intact() tells whether those still
/// stand.
class Rows {
 public:
  static constexpr float kForeign = -12345.5F;

  Rows(std::int64_t rows, std::int64_t cols, std::int64_t gap)
      : rows_(rows), cols_(cols), stride_(cols + gap), data_(static_cast<std::size_t>(rows * stride_ + 1), kForeign) {}
  Rows(std::int64_t rows, std::int64_t cols, std::int64_t gap, Random& random, float scale = 1)
      : Rows(rows, cols, gap) {
    fill([&] { return scale * random.normal(); });
  }

  template <class Value>
  void fill(Value value) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < cols_; ++c) matrix()(r, c) = value();
    }
  }
  /// Starts one float past the allocation, so that nothing is aligned.
  Matrix<float> matrix() { return {data_.data() + 1, rows_, cols_, stride_}; }
  Matrix<const float> matrix() const { return {data_.data() + 1, rows_, cols_, stride_}; }
  Matrix<const float> from(std::int64_t begin, std::int64_t end) const { return matrix().row_range(begin, end); }

  Floats values() const {
    Floats out;
    for (std::int64_t r = 0; r < rows_; ++r) out.insert(out.end(), matrix().row(r), matrix().row(r) + cols_);
    return out;
  }
  bool intact() const {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = cols_; c < stride_; ++c) {
        if (matrix().row(r)[c] != kForeign) return false;
      }
    }
    return data_.front() == kForeign;
  }

 private:
  std::int64_t rows_, cols_, stride_;
  Floats data_;
};

/// Asserts that each value is within tolerance * (its own size + the array's root mean square), or both are NaN.
inline void expect_close(const Floats& got, const Floats& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double squares = 0;
  for (const float v : want) squares += std::isfinite(v) ? static_cast<double>(v) * v : 0;
  const double rms = want.empty() ? 0 : std::sqrt(squares / static_cast<double>(want.size()));
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i]) && std::isnan(got[i])) continue;
    const double bound = tolerance * (std::fabs(static_cast<double>(want[i])) + rms);
    ASSERT_LE(std::fabs(static_cast<double>(got[i]) - want[i]), bound)
        << what << ": element " << i << " of " << want.size() << ": got " << got[i] << ", want " << want[i];
  }
}

inline void expect_same_bits(const Floats& got, const Floats& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(std::memcmp(&got[i], &want[i], sizeof(float)), 0)
        << what << ": element " << i << ": got " << got[i] << ", want " << want[i];
  }
}

using testing_support::offsets_of;

/// A random call of an op along sequences.
class SequenceProblem {
 public:
  virtual ~SequenceProblem() = default;

  /// Runs the op on rows [first, first + offsets.back()), writing those rows of `y`; states are read and updated.
  virtual void run(const Backend& backend, std::int64_t first, Offsets offsets, std::span<float* const> states,
                   Matrix<float> y) const = 0;
  virtual std::int64_t state_size() const = 0;
  virtual std::int64_t out_cols() const = 0;

  /// Whether row t of y is defined; results have zeros where it is not.
  virtual bool wanted(std::int64_t /*t*/) const { return true; }

  struct Result {
    Floats y;
    std::vector<Floats> states;
    bool intact = true;
  };

  /// Runs a whole batch from random states that depend on the sequence's number only.
  Result run_batch(const Backend& backend, const std::vector<std::int64_t>& lengths) const {
    return run_pieces(backend, {offsets_of(lengths)}, lengths.size());
  }

  /// Runs the same batch, one call per entry of `pieces`, which are offsets of the same sequences one after another.
  Result run_pieces(const Backend& backend, const std::vector<std::vector<std::int64_t>>& pieces,
                    std::size_t sequences) const {
    Result result;
    for (std::size_t s = 0; s < sequences; ++s) result.states.push_back(initial_state(s));
    std::vector<float*> pointers;
    for (Floats& state : result.states) pointers.push_back(state.data() + 1);
    std::int64_t rows = 0;
    for (const auto& offsets : pieces) rows += offsets.back();
    Rows y(rows, out_cols(), 3);
    std::int64_t first = 0;
    for (const auto& offsets : pieces) {
      run(backend, first, offsets, pointers, y.matrix().row_range(first, first + offsets.back()));
      first += offsets.back();
    }
    for (std::int64_t t = 0; t < rows; ++t) {
      if (!wanted(t)) std::fill_n(y.matrix().row(t), out_cols(), 0.0F);
    }
    result.y = y.values();
    result.intact = y.intact();
    for (const Floats& state : result.states) {
      if (state.front() != Rows::kForeign || state.back() != Rows::kForeign) result.intact = false;
    }
    return result;
  }

  /// Whether states are held in bfloat16: the floats that go in and come out are values of it.
  virtual bool rounded() const { return false; }

  /// Unaligned, with a foreign float before and after.
  Floats initial_state(std::size_t s) const {
    Random random(1000 + s);
    Floats state = random.normals(state_size() + 2, 0.5F);
    if (rounded()) {
      for (float& v : state) v = BFloat16::from_float(v).to_float();
    }
    state.front() = state.back() = Rows::kForeign;
    return state;
  }
};

class ConvProblem : public SequenceProblem {
 public:
  ConvProblem(std::int64_t rows, std::int64_t channels, std::int64_t taps, bool bias, std::uint64_t seed)
      : random_(seed), x_(rows, channels, 5, random_), weight_(taps, channels, 0, random_, 0.5F) {
    if (bias) bias_ = random_.normals(channels);
  }
  std::int64_t state_size() const override { return (weight_.matrix().rows - 1) * x_.matrix().cols; }
  std::int64_t out_cols() const override { return x_.matrix().cols; }
  void run(const Backend& backend, std::int64_t first, Offsets offsets, std::span<float* const> states,
           Matrix<float> y) const override {
    backend.causal_conv(x_.from(first, first + offsets.back()), weight_.matrix(),
                        bias_.empty() ? nullptr : bias_.data(), offsets, states, y);
  }

 private:
  Random random_;
  Rows x_, weight_;
  Floats bias_;
};

/// How large the steps dt are: what decays a scan sees.
enum class Steps { usual, tiny, huge, mixed, zero };

inline float random_step(Random& random, Steps steps) {
  if (steps == Steps::mixed) steps = static_cast<Steps>(static_cast<int>(random.uniform(0, 2.999F)));
  switch (steps) {
    case Steps::tiny: return std::exp(random.uniform(-16, -10));
    case Steps::huge: return std::exp(random.uniform(2, 8));
    case Steps::zero: return 0;
    default: return std::exp(random.uniform(-7, 0));
  }
}

/// Which rows of a scan are wanted: all; none; each by chance; or long stretches, whole chunks of them.
enum class Wanted { all, none, some, stretches };

struct ScanOptions {
  Steps steps = Steps::usual;
  bool D = true;
  bool m = false;
  std::uint64_t seed = 1;
  Wanted wanted = Wanted::all;
  bool zero_steps = false;  // some steps are zero: single ones, and whole stretches of single heads (or channels)
  bool rounded = false;     // states are held in bfloat16
};

/// Calls run(rows) with the states as they are, or with copies of them in bfloat16, unaligned and between foreign
/// values, that are widened again afterwards.
template <class Run>
void run_on_states(ScanRows rows, std::int64_t state_size, const ScanOptions& options, Run run) {
  if (!options.rounded) return run(rows);
  const BFloat16 foreign{0x1234};
  const std::span<float* const> states = rows.states;
  std::vector<std::vector<BFloat16>> copies;
  std::vector<RoundedState> pointers;
  for (const float* state : states) {
    std::vector<BFloat16>& copy = copies.emplace_back(1, foreign);
    for (std::int64_t i = 0; i < state_size; ++i) copy.push_back(BFloat16::from_float(state[i]));
    copy.push_back(foreign);
    pointers.push_back({copy.data() + 1, static_cast<std::uint32_t>(options.seed)});
  }
  rows.states = {};
  rows.rounded = pointers;
  run(rows);
  for (std::size_t s = 0; s < states.size(); ++s) {
    for (std::int64_t i = 0; i < state_size; ++i) states[s][i] = pointers[s].data[i].to_float();
    EXPECT_EQ(copies[s].front().bits, foreign.bits);
    EXPECT_EQ(copies[s].back().bits, foreign.bits);
  }
}

/// Empty for all. The same for the same rows and options.
inline std::vector<std::uint8_t> random_wanted(std::int64_t rows, const ScanOptions& options) {
  if (options.wanted == Wanted::all) return {};
  Random random(options.seed + 77);
  std::vector<std::uint8_t> wanted(static_cast<std::size_t>(rows));
  bool now = false;
  for (std::size_t t = 0; t < wanted.size(); ++t) {
    if (options.wanted == Wanted::some) now = random.uniform(0, 1) < 0.3F;
    if (options.wanted == Wanted::stretches && t % 64 == 0) now = random.uniform(0, 1) < 0.4F;
    wanted[t] = now ? (t % 3 == 0 ? 1 : 200) : 0;
  }
  return wanted;
}

/// What a scan must never look at: C of rows that are not wanted.
inline void spoil_unwanted(const std::vector<std::uint8_t>& wanted, Rows& C) {
  for (std::size_t t = 0; t < wanted.size(); ++t) {
    const auto row = static_cast<std::int64_t>(t);
    if (wanted[t] == 0) std::fill_n(C.matrix().row(row), C.matrix().cols, std::nanf(""));
  }
}

/// The steps dt [rows, cols] of a scan.
inline void fill_steps(Random& random, const ScanOptions& options, Rows& dt) {
  dt.fill([&] { return random_step(random, options.steps); });
  if (!options.zero_steps) return;
  for (std::int64_t c = 0; c < dt.matrix().cols; ++c) {
    bool stretch = false;
    for (std::int64_t t = 0; t < dt.matrix().rows; ++t) {
      if (t % 40 == 0) stretch = random.uniform(0, 1) < 0.7F;
      if (stretch || random.uniform(0, 1) < 0.1F) dt.matrix()(t, c) = 0;
    }
  }
}

inline Floats random_multiplicities(Random& random, std::int64_t rows) {
  Floats m(static_cast<std::size_t>(rows));
  for (float& v : m) v = std::floor(random.uniform(1, 6));
  return m;
}

class ScanProblem : public SequenceProblem {
 public:
  ScanProblem(std::int64_t rows, std::int64_t channels, std::int64_t states, ScanOptions options)
      : options_(options),
        random_(options.seed),
        x_(rows, channels, 7, random_),
        dt_(rows, channels, 1),
        A_(states, channels, 0),
        B_(rows, states, 9, random_),
        C_(rows, states, 9, random_) {
    fill_steps(random_, options, dt_);
    A_.fill([&] { return -random_.uniform(0.1F, 16); });
    if (options.D) D_ = random_.normals(channels);
    if (options.m) m_ = random_multiplicities(random_, rows);
    wanted_ = random_wanted(rows, options);
    spoil_unwanted(wanted_, C_);
  }
  std::int64_t state_size() const override { return A_.matrix().rows * A_.matrix().cols; }
  std::int64_t out_cols() const override { return x_.matrix().cols; }
  bool wanted(std::int64_t t) const override { return wanted_.empty() || wanted_[static_cast<std::size_t>(t)] != 0; }
  void run(const Backend& backend, std::int64_t first, Offsets offsets, std::span<float* const> states,
           Matrix<float> y) const override {
    const std::int64_t end = first + offsets.back();
    const ScanRows rows{offsets, states, m_.empty() ? nullptr : m_.data() + first,
                        wanted_.empty() ? nullptr : wanted_.data() + first};
    run_on_states(rows, state_size(), options_, [&](const ScanRows& scan_rows) {
      backend.selective_scan(x_.from(first, end), dt_.from(first, end), A_.matrix(), B_.from(first, end),
                             C_.from(first, end), D_.empty() ? nullptr : D_.data(), scan_rows, y);
    });
  }
  bool rounded() const override { return options_.rounded; }

 private:
  ScanOptions options_;
  Random random_;
  Rows x_, dt_, A_, B_, C_;
  Floats D_, m_;
  std::vector<std::uint8_t> wanted_;
};

struct SsdExtents {
  std::int64_t heads, channels, states, groups;
};

class SsdProblem : public SequenceProblem {
 public:
  SsdProblem(std::int64_t rows, SsdExtents extents, ScanOptions options)
      : extents_(extents),
        options_(options),
        random_(options.seed),
        x_(rows, extents.heads * extents.channels, 7, random_),
        dt_(rows, extents.heads, 1),
        B_(rows, extents.groups * extents.states, 9, random_),
        C_(rows, extents.groups * extents.states, 9, random_) {
    fill_steps(random_, options, dt_);
    for (std::int64_t h = 0; h < extents.heads; ++h) A_.push_back(-random_.uniform(0.1F, 16));
    if (options.D) D_ = random_.normals(extents.heads * extents.channels);
    if (options.m) m_ = random_multiplicities(random_, rows);
    wanted_ = random_wanted(rows, options);
    spoil_unwanted(wanted_, C_);
  }
  std::int64_t state_size() const override { return extents_.heads * extents_.channels * extents_.states; }
  std::int64_t out_cols() const override { return extents_.heads * extents_.channels; }
  bool wanted(std::int64_t t) const override { return wanted_.empty() || wanted_[static_cast<std::size_t>(t)] != 0; }
  void run(const Backend& backend, std::int64_t first, Offsets offsets, std::span<float* const> states,
           Matrix<float> y) const override {
    const std::int64_t end = first + offsets.back();
    const ScanRows rows{offsets, states, m_.empty() ? nullptr : m_.data() + first,
                        wanted_.empty() ? nullptr : wanted_.data() + first};
    run_on_states(rows, state_size(), options_, [&](const ScanRows& scan_rows) {
      backend.ssd(x_.from(first, end), dt_.from(first, end), A_, B_.from(first, end), C_.from(first, end),
                  extents_.groups, D_, scan_rows, y);
    });
  }
  bool rounded() const override { return options_.rounded; }

 private:
  SsdExtents extents_;
  ScanOptions options_;
  Random random_;
  Rows x_, dt_, B_, C_;
  Floats A_, D_, m_;
  std::vector<std::uint8_t> wanted_;
};

}  // namespace molt::testing_kernels
