// FakeSite: a Site of made-up numbers, measured by plain loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "molt/reducer.h"

namespace molt::testing_support {

class FakeSite final : public Site {
 public:
  using Rows = std::vector<std::vector<float>>;

  /// `count` tokens of one whole prompt, the first and the last protected, of which `removals` are to go. With `levels`
  /// numbers are drawn from that many, so that ties abound; with 0 from a continuum.
  FakeSite(std::int64_t count, std::int64_t to_remove, std::uint64_t seed, int levels) : removals(to_remove) {
    Random random(seed);
    place_ = {.begin = 0, .tokens = count, .length = count};
    positions_.resize(static_cast<std::size_t>(count));
    std::iota(positions_.begin(), positions_.end(), 0);
    protection.assign(positions_.size(), 0);
    protection.front() = protection.back() = 1;
    const auto draw = [&] {
      const double u = random.uniform(-1, 1);
      return static_cast<float>(levels > 0 ? std::round(u * levels) / levels : u);
    };
    for (Rows* rows : {&y, &h, &r}) {
      rows->resize(positions_.size(), std::vector<float>(rows == &y ? 6 : 4));
      for (std::vector<float>& row : *rows) std::generate(row.begin(), row.end(), draw);
    }
    shares.resize(positions_.size());
    for (float& share : shares) share = std::abs(draw());
  }

  std::int64_t layer() const override { return at_layer; }
  const Place& place() const override { return place_; }
  std::span<const std::int64_t> positions() const override { return positions_; }
  std::span<const std::uint8_t> is_protected() const override { return protection; }
  std::int64_t to_remove() const override { return removals; }

  std::vector<float> importance(Importance metric) const override {
    std::vector<float> scores;
    for (const std::vector<float>& row : y) {
      double sum = 0;
      for (const float v : row) {
        switch (metric) {
          case Importance::clip: sum += std::isnan(v) ? v : std::max(v, 0.0F); break;
          case Importance::l1: sum += std::abs(v); break;
          case Importance::l2: sum += static_cast<double>(v) * v; break;
          case Importance::signed_mean: sum += v; break;
        }
      }
      sum /= static_cast<double>(row.size());
      scores.push_back(static_cast<float>(metric == Importance::l2 ? std::sqrt(sum) : sum));
    }
    return scores;
  }

  std::vector<Match> match(Feature feature, std::span<const std::int64_t> sources,
                           std::span<const std::int64_t> targets, bool later_only) const override {
    std::vector<Match> matches;
    for (const std::int64_t source : sources) {
      Match best{-1, -std::numeric_limits<float>::infinity()};
      for (const std::int64_t target : targets) {
        if (later_only && target <= source) continue;
        const float similarity = cosine(feature, source, target);
        if (best.target < 0 || similarity > best.similarity) best = {target, similarity};
      }
      matches.push_back(best);
    }
    return matches;
  }

  std::vector<float> contribution() const override { return shares; }

  std::vector<float> features(Feature feature) const override {
    std::vector<float> all;
    for (std::int64_t t = 0; t < tokens(); ++t) {
      const std::vector<float> row = feature_row(feature, t);
      all.insert(all.end(), row.begin(), row.end());
    }
    return all;
  }

  /// -infinity where a feature is NaN.
  float cosine(Feature feature, std::int64_t a, std::int64_t b) const {
    const std::vector<float> u = feature_row(feature, a);
    const std::vector<float> v = feature_row(feature, b);
    double product = 0;
    double uu = 0;
    double vv = 0;
    for (std::size_t d = 0; d < u.size(); ++d) {
      product += static_cast<double>(u[d]) * v[d];
      uu += static_cast<double>(u[d]) * u[d];
      vv += static_cast<double>(v[d]) * v[d];
    }
    const double cosine = product / (std::max(std::sqrt(uu), 1e-12) * std::max(std::sqrt(vv), 1e-12));
    return std::isnan(cosine) ? -std::numeric_limits<float>::infinity() : static_cast<float>(cosine);
  }

  /// Makes the tokens those of a window of a longer prompt, of unknown length where it is negative.
  void put_at(std::int64_t begin, std::int64_t length) {
    place_.begin = begin;
    if (length < 0) {
      place_.length.reset();
    } else {
      place_.length = length;
    }
    for (std::size_t t = 0; t < positions_.size(); ++t) {
      positions_[t] = begin + static_cast<std::int64_t>(t);
      const bool is_last = length >= 0 && positions_[t] == length - 1;
      protection[t] = static_cast<std::uint8_t>(positions_[t] == 0 || is_last);
    }
  }

  Rows y, h, r;
  std::vector<float> shares;
  std::vector<std::uint8_t> protection;
  std::int64_t at_layer = 3;
  std::int64_t removals = 0;

 private:
  std::vector<float> feature_row(Feature feature, std::int64_t token) const {
    const auto t = static_cast<std::size_t>(token);
    if (feature == Feature::scan_output) return y[t];
    std::vector<float> row = h[t];
    if (feature == Feature::stream) std::transform(row.begin(), row.end(), r[t].begin(), row.begin(), std::plus<>());
    return row;
  }

  Place place_;
  std::vector<std::int64_t> positions_;
};

}  // namespace molt::testing_support
