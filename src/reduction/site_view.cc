#include "reduction/site_view.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
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
  const std::lock_guard lock(mutex_);
  const auto [found, is_new] = importance_.try_emplace(metric);
  std::vector<float>& scores = found->second;
  if (is_new) {
    be_in_order();
    scores.resize(static_cast<std::size_t>(c_.scan.y.rows));
    c_.backend.importance(c_.scan.y, metric, scores.data());
  }
  return scores;
}

std::span<const float> BlockMeasures::contribution() {
  const std::lock_guard lock(mutex_);
  if (!contribution_) {
    be_in_order();
    const RowTable::Participants& p = c_.table.participants();
    contribution_.emplace(static_cast<std::size_t>(p.offsets.back()));
    const float* const multiplicity = p.multiplicity.empty() ? nullptr : p.multiplicity.data();
    c_.block.contribution(c_.backend, c_.scan, p.offsets, multiplicity, contribution_->data());
  }
  return *contribution_;
}

std::vector<float> BlockMeasures::features(Feature feature, std::int64_t begin, std::int64_t end) {
  const std::lock_guard lock(mutex_);
  be_in_order();
  const Arena::Scope scope(c_.arena);
  const Tensor rows = c_.backend.memory().fetch(rows_by(feature).row_range(begin, end));
  return {rows.as<float>(), rows.as<float>() + rows.size()};
}

Matrix<const float> BlockMeasures::rows_by(Feature feature) const {
  switch (feature) {
    case Feature::scan_output: return c_.scan.y;
    case Feature::block_output: MOLT_CHECK(c_.stream.h_pending); return c_.stream.h;
    case Feature::stream: break;
  }
  if (!c_.stream.h_pending) return c_.stream.residual;
  const Matrix<float> sum = c_.arena.matrix(c_.stream.residual.rows, c_.stream.residual.cols);
  c_.backend.add_rows(c_.stream.residual, c_.stream.h, sum);
  return sum;
}

std::size_t BlockMeasures::ask(std::size_t sequence, Question question) {
  const std::lock_guard lock(mutex_);
  asked_[sequence].push_back({std::move(question)});
  return asked_[sequence].size() - 1;
}

const BlockMeasures::Answer& BlockMeasures::answer(std::size_t sequence, std::size_t number) {
  const std::lock_guard lock(mutex_);
  if (!asked_[sequence][number].answer) {
    be_in_order();
    std::map<std::pair<Feature, bool>, std::vector<MatchSearch>> searches;
    for (std::deque<Asked>& of_sequence : asked_) {
      for (auto& [question, answer] : of_sequence) {
        if (answer) continue;
        const std::size_t sources = question.sources.size();
        answer.emplace(Answer{std::vector<std::int64_t>(sources), std::vector<float>(sources)});
        searches[{question.feature, question.later_only}].push_back(
            {question.first, question.sources, question.targets, answer->match.data(), answer->similarity.data()});
      }
    }
    for (const auto& [by, alike] : searches) {
      const Arena::Scope scope(c_.arena);
      c_.backend.best_matches(rows_by(by.first), alike, by.second);
    }
  }
  return *asked_[sequence][number].answer;
}

void SiteView::check_named(bool Measures::*named, std::string_view measure) const {
  if (c_.piece.reduction->reducer->measures().*named) return;
  fail("method {} asks for the {} of tokens behind block {}, which its measures() does not name",
       c_.piece.reduction->method, measure, layer());
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
  return ask_match(feature, {sources.begin(), sources.end()}, {targets.begin(), targets.end()}, later_only)();
}

Site::Matches SiteView::ask_match(Feature feature, std::vector<std::int64_t> sources, std::vector<std::int64_t> targets,
                                  bool later_only) const {
  check_named(&Measures::output, "similarity");
  // A backend finds no match among numbers that are none; other reasons for finding none are a missing target.
  const bool all_match = !later_only && !targets.empty();
  const std::int64_t first = c_.table.live_offsets()[c_.sequence];
  const std::size_t question =
      c_.measures.ask(c_.sequence, {feature, later_only, first, std::move(sources), std::move(targets)});
  return [this, question, all_match] {
    const BlockMeasures::Answer& answer = c_.measures.answer(c_.sequence, question);
    if (all_match) check_finite(answer.similarity, "similarity", layer());
    std::vector<Match> matches;
    for (std::size_t i = 0; i < answer.match.size(); ++i) matches.push_back({answer.match[i], answer.similarity[i]});
    return matches;
  };
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
  const std::int64_t begin = c_.table.live_offsets()[c_.sequence];
  std::vector<float> copy = c_.measures.features(feature, begin, begin + tokens());
  check_finite(copy, "feature", layer());
  return copy;
}

}  // namespace molt
