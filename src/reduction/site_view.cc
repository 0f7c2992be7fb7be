#include "reduction/site_view.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "base/random.h"

namespace molt {
namespace {

std::vector<float> noise(std::size_t count, std::int64_t layer) {
  Random random(static_cast<std::uint64_t>(layer + 2));
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.uniform());
  return values;
}

/// Throws Error when a measure is not a number: what a method would choose by it has no meaning.
void check_finite(std::span<const float> values, std::string_view measure, std::int64_t layer) {
  for (const float value : values) {
    if (!std::isfinite(value)) {
      fail(
          "the {} of a token behind block {} is {}: the model's weights or activations are not finite, so nothing can "
          "be chosen by them; check the checkpoint (molt generate runs it without --reduce)",
          measure, layer, value);
    }
  }
}

}  // namespace

std::vector<float> BlindSite::importance(Importance /*metric*/) const {
  return noise(static_cast<std::size_t>(tokens()), layer());
}

std::vector<Site::Match> BlindSite::match(Feature /*feature*/, std::span<const std::int64_t> sources,
                                          std::span<const std::int64_t> targets, bool later_only) const {
  const std::vector<float> similarity = noise(sources.size(), layer());
  std::vector<Match> matches;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto first = later_only ? std::upper_bound(targets.begin(), targets.end(), sources[i]) : targets.begin();
    if (first == targets.end()) {
      matches.push_back({-1, -std::numeric_limits<float>::infinity()});
    } else {
      matches.push_back({*first, similarity[i]});
    }
  }
  return matches;
}

std::vector<float> BlindSite::contribution() const {
  return noise(static_cast<std::size_t>(tokens()), layer());
}

std::vector<float> BlindSite::features(Feature /*feature*/) const {
  return noise(static_cast<std::size_t>(tokens() * width_), layer());
}

std::span<const float> BlockMeasures::importance(Importance metric) {
  const auto [found, is_new] = importance_.try_emplace(metric);
  std::vector<float>& scores = found->second;
  if (is_new) {
    scores.resize(static_cast<std::size_t>(scan_.y.rows));
    backend_.importance(scan_.y, metric, scores.data());
  }
  return scores;
}

std::span<const float> BlockMeasures::contribution() {
  if (!contribution_) {
    const RowTable::Participants& p = table_.participants();
    contribution_.emplace(static_cast<std::size_t>(p.offsets.back()));
    const float* const multiplicity = p.multiplicity.empty() ? nullptr : p.multiplicity.data();
    block_.contribution(backend_, scan_, p.offsets, multiplicity, contribution_->data());
  }
  return *contribution_;
}

void SiteView::check_named(bool Measures::*named, std::string_view measure) const {
  if (c_.piece.reduction->reducer->measures().*named) return;
  fail("method {} asks for the {} of tokens behind block {}, which its measures() does not name",
       c_.piece.reduction->method, measure, layer());
}

Matrix<const float> SiteView::feature_rows(Feature feature) const {
  const std::int64_t begin = c_.table.live_offsets()[c_.sequence];
  const std::int64_t end = c_.table.live_offsets()[c_.sequence + 1];
  switch (feature) {
    case Feature::scan_output: return c_.scan.y.row_range(begin, end);
    case Feature::block_output: return c_.stream.h.row_range(begin, end);
    case Feature::stream: break;
  }
  const Matrix<float> residual = c_.stream.residual.row_range(begin, end);
  const Matrix<float> h = c_.stream.h.row_range(begin, end);
  const Matrix<float> sum = c_.arena.matrix(residual.rows, residual.cols);
  c_.backend.add_rows(residual, h, sum);
  return sum;
}

std::vector<float> SiteView::importance(Importance metric) const {
  check_named(&Measures::output, "importance");
  const auto begin = static_cast<std::size_t>(c_.table.live_offsets()[c_.sequence]);
  const auto scores = c_.measures.importance(metric).subspan(begin, static_cast<std::size_t>(tokens()));
  check_finite(scores, "importance", layer());
  return {scores.begin(), scores.end()};
}

std::vector<Site::Match> SiteView::match(Feature feature, std::span<const std::int64_t> sources,
                                         std::span<const std::int64_t> targets, bool later_only) const {
  check_named(&Measures::output, "similarity");
  std::vector<std::int64_t> target(sources.size());
  std::vector<float> similarity(sources.size());
  const Arena::Scope scope(c_.arena);
  c_.backend.best_match(feature_rows(feature), sources, targets, later_only, target.data(), similarity.data());
  std::vector<Match> matches;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    // A backend finds no match among numbers that are none; other reasons for finding none are a missing target.
    if (!later_only && !targets.empty()) check_finite({&similarity[i], 1}, "similarity", layer());
    matches.push_back({target[i], similarity[i]});
  }
  return matches;
}

std::vector<float> SiteView::contribution() const {
  check_named(&Measures::contribution, "contribution");
  const RowTable::Participants& p = c_.table.participants();
  const std::span<const float> all = c_.measures.contribution();
  std::vector<float> live;
  for (std::int64_t i = p.offsets[c_.sequence]; i < p.offsets[c_.sequence + 1]; ++i) {
    const auto row = static_cast<std::size_t>(i);
    if (p.all_live || p.wanted[row] != 0) live.push_back(all[row]);
  }
  check_finite(live, "contribution", layer());
  return live;
}

std::vector<float> SiteView::features(Feature feature) const {
  check_named(&Measures::output, "features");
  const Arena::Scope scope(c_.arena);
  const Tensor rows = c_.backend.memory().fetch(feature_rows(feature));
  std::vector<float> copy(rows.as<float>(), rows.as<float>() + rows.size());
  check_finite(copy, "feature", layer());
  return copy;
}

}  // namespace molt
