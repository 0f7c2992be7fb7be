// Rows leave and come back in any order, together or scattered: beside a map of what each holds.
#include "reduction/parked_rows.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>

#include "base/random.h"

namespace molt {
namespace {

constexpr std::int64_t kWidth = 3;

/// A stream under test, and what every row of it, live or parked, should hold.
class Passage {
 public:
  Passage(std::int64_t rows, std::uint64_t seed, bool in_place)
      : random_(seed), stream_(arena_.matrix(rows, kWidth)), parked_(*backend_, rows, memory_, in_place) {
    for (std::int64_t row = 0; row < rows; ++row) live_.push_back(row);
    compute();
  }

  /// What a block does: new values in every live row.
  void compute() {
    for (std::size_t i = 0; i < live_.size(); ++i) {
      for (std::int64_t d = 0; d < kWidth; ++d) {
        const auto at = static_cast<std::int64_t>(i);
        residual_[live_[i]][d] = stream_(at, d) = next();
      }
    }
  }

  /// A run of rows and some others leave, as two groups, and some for good. One stays at least.
  void leave() {
    RowTable::Move move{.stay_all = false};
    const std::size_t begin = below(live_.size());
    const std::size_t end = begin + below(live_.size() - begin + 1);
    const std::size_t stays = below(live_.size());
    std::vector<std::int64_t> run;
    std::vector<std::int64_t> others;
    std::vector<std::int64_t> live;
    for (std::size_t i = 0; i < live_.size(); ++i) {
      const std::size_t chance = below(8);
      if (i != stays && i >= begin && i < end) {
        run.push_back(static_cast<std::int64_t>(i));
      } else if (i != stays && chance == 0) {
        others.push_back(static_cast<std::int64_t>(i));
      } else if (i == stays || chance > 1) {
        move.stay.push_back(static_cast<std::int64_t>(i));
        live.push_back(live_[i]);
      }
    }
    for (const auto& group : {run, others}) {
      if (group.empty()) continue;
      move.parked.emplace_back(groups_.size(), group);
      groups_.emplace_back();
      for (const std::int64_t i : group) groups_.back().push_back(live_[static_cast<std::size_t>(i)]);
      away_.push_back(groups_.size() - 1);
    }
    live_ = live;
    parked_.leave(move, stream_);
  }

  /// Some of the groups come back.
  void come_back() {
    const std::vector<std::int64_t> before = live_;
    RowTable::Return back;
    for (const std::size_t group : std::exchange(away_, {})) {
      if (below(2) == 0) {
        away_.push_back(group);
        continue;
      }
      back.entering.emplace_back(group, std::vector<std::int64_t>());
      live_.insert(live_.end(), groups_[group].begin(), groups_[group].end());
    }
    if (back.entering.empty()) return;
    std::sort(live_.begin(), live_.end());
    back.live_before = places_of(before);
    for (auto& [group, places] : back.entering) places = places_of(groups_[group]);
    parked_.come_back(back, static_cast<std::int64_t>(live_.size()), stream_);
  }

  void check() const {
    RC_ASSERT(stream_.rows == static_cast<std::int64_t>(live_.size()));
    expect_rows(stream_, live_, residual_);
    for (const std::size_t group : away_) {
      const AbsentRows rows = parked_.writing({group, nullptr, {}});
      expect_rows(rows.residual, groups_[group], residual_);
    }
  }

 private:
  using Values = std::map<std::int64_t, std::array<float, kWidth>>;

  float next() { return static_cast<float>(random_.next() % 100000); }
  std::size_t below(std::size_t count) { return random_.next() % count; }

  std::vector<std::int64_t> places_of(const std::vector<std::int64_t>& rows) const {
    std::vector<std::int64_t> places;
    for (const std::int64_t row : rows)
      places.push_back(std::lower_bound(live_.begin(), live_.end(), row) - live_.begin());
    return places;
  }

  static void expect_rows(Matrix<const float> x, const std::vector<std::int64_t>& rows, const Values& expected) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::int64_t d = 0; d < kWidth; ++d) {
        RC_ASSERT(x(static_cast<std::int64_t>(i), d) == expected.at(rows[i])[static_cast<std::size_t>(d)]);
      }
    }
  }

  Random random_;
  std::shared_ptr<const Backend> backend_ = make_backend("cpu");
  Arena arena_;
  Arena memory_;
  Matrix<float> stream_;
  ParkedRows parked_;
  std::vector<std::int64_t> live_;                 // rows of the stream, ascending
  std::vector<std::vector<std::int64_t>> groups_;  // rows of each
  std::vector<std::size_t> away_;
  Values residual_;
};

RC_GTEST_PROP(ParkedRows, HoldWhatTheyLeftWith, ()) {
  const auto rows = *rc::gen::inRange<std::int64_t>(1, 24);
  const auto steps = *rc::gen::inRange(1, 12);
  Passage passage(rows, *rc::gen::arbitrary<std::uint64_t>(), *rc::gen::arbitrary<bool>());
  for (int step = 0; step < steps; ++step) {
    passage.leave();
    passage.check();
    if (*rc::gen::arbitrary<bool>()) passage.compute();
    passage.come_back();
    passage.check();
  }
}

}  // namespace
}  // namespace molt
