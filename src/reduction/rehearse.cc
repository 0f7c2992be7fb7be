// A reduction without a model run: the bookkeeping of a prompt alone.
#include <algorithm>

#include "base/fail.h"
#include "reduction/row_table.h"
#include "reduction/site_view.h"

namespace molt {
namespace {

constexpr std::int64_t kUsualWindow = 2048;  // of sessions, unless they say otherwise

void rehearse_window(const ReducedPiece& piece, const ModelCore& model) {
  RowTable table({&piece, 1}, model);
  const auto visit = [&](std::int64_t layer) {
    if (!table.is_site(layer)) return;
    const Plan plan = piece.reduction->reducer->plan(BlindSite(table, piece, 0, layer));
    table.apply(layer, {&plan, 1});
  };
  visit(-1);
  for (std::int64_t layer = 0; layer < model.config().n_layer; ++layer) {
    table.take_back(layer);
    table.take_part(layer);
    visit(layer);
  }
}

}  // namespace

ReductionRecord Reduction::rehearse(std::int64_t length) const {
  if (length < 1) fail("a prompt has at least one token, not {}", length);
  if (core_->counts_by_content) {
    fail(
        "{} decides from what a prompt says how many of its tokens leave, so a length alone tells nothing; see what it "
        "does to a prompt with `molt logits --record FILE.json`",
        method());
  }
  const ModelCore& model = *core_->model;
  ReductionRecord record;
  record.tokens = length;
  std::vector<std::int64_t> owed(static_cast<std::size_t>(model.config().n_layer), 0);
  const std::int64_t size = window() > 0 ? window() : kUsualWindow;
  for (std::int64_t begin = 0; begin < length; begin += size) {
    const Place place{.begin = begin, .tokens = std::min(size, length - begin), .length = length};
    rehearse_window({.reduction = core_.get(), .place = place, .fed = length, .owed = owed, .record = &record}, model);
  }
  record.sort();
  return record;
}

}  // namespace molt
