#include "eval/passage.h"

namespace molt::eval {
namespace {

PassageReading read(const Model& model, std::span<const TokenId> passage, const std::string& name,
                    const Reduction* reduction, std::int64_t window) {
  PassageReading reading{name, {}, 0};
  Session session(model, {.window = window, .progress = {}});  // its own, so that memory is its own
  State state(model);
  ReductionRecord record;
  session.feed(state, passage, {.reduction = reduction, .record = &record});
  if (reduction != nullptr) reading.record = std::move(record);
  reading.scratch_bytes = session.scratch_bytes();
  return reading;
}

}  // namespace

std::vector<TokenId> choose_passage(const std::vector<TaskItems>& tasks, std::size_t length) {
  const std::vector<TokenId>* best = nullptr;
  const auto is_better = [&](const std::vector<TokenId>& context) {
    if (best == nullptr) return true;
    const bool fits = context.size() <= length;
    if (fits != (best->size() <= length)) return fits;
    return fits ? context.size() > best->size() : context.size() < best->size();
  };
  for (const TaskItems& task : tasks) {
    for (const Item& item : task.items) {
      for (const Request& request : item.requests) {
        if (is_better(request.context)) best = &request.context;
      }
    }
  }
  return best == nullptr ? std::vector<TokenId>() : *best;
}

std::vector<PassageReading> read_passage(const Model& model, std::span<const TokenId> passage,
                                         const std::vector<Setting>& settings, std::int64_t window) {
  std::vector<PassageReading> readings{read(model, passage, kDense, nullptr, window)};
  for (const Setting& setting : settings) {
    readings.push_back(read(model, passage, setting.name, &setting.reduction, window));
  }
  return readings;
}

}  // namespace molt::eval
