#include "op_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace molt::cli {
namespace {

/// Whichever ceiling the op would meet first.
void hold_against(const Ceilings& ceilings, OpShare& op) {
  const bool product = op.total.op == "matmul";
  const double roof = product ? ceilings.matmul_gflop_per_s : ceilings.matmul_f32_gflop_per_s;
  const double reading = op.total.cost.bytes / 1e9 / ceilings.read_gb_per_s;
  const double computing = op.total.cost.flops / 1e9 / roof;
  op.bound = reading > computing ? "read" : product ? "matmul" : "matmul f32";
  op.of_bound = std::max(reading, computing) / op.total.seconds;
}

double per_second(double amount, const OpShare& op) {
  return amount / 1e9 / op.total.seconds;
}

}  // namespace

Stopwatch::Stopwatch(const Backend& backend) : timed_(dynamic_cast<const TimedBackend*>(&backend)) {
  if (timed_ != nullptr) timed_->take_totals();
  start_ = std::chrono::steady_clock::now();
}

Timing Stopwatch::stop() const {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  return {seconds, timed_ == nullptr ? std::vector<OpTotal>{} : timed_->take_totals()};
}

OpTimes op_times(const Timing& timing, std::int64_t repeats, const Ceilings* ceilings) {
  const auto n = static_cast<double>(repeats);
  OpTimes times{.seconds = timing.seconds / n, .ops = {}, .other = 1};
  for (OpTotal total : timing.ops) {
    total.calls /= repeats;
    total.seconds = std::max(total.seconds / n, 1e-12);  // a clock that stood still divides nothing by zero
    total.cost.bytes /= n;
    total.cost.flops /= n;
    OpShare op{.total = std::move(total)};
    op.share = op.total.seconds / times.seconds;
    if (ceilings != nullptr) hold_against(*ceilings, op);
    times.other -= op.share;
    times.ops.push_back(std::move(op));
  }
  std::stable_sort(times.ops.begin(), times.ops.end(),
                   [](const OpShare& a, const OpShare& b) { return a.share > b.share; });
  return times;
}

nlohmann::json to_json(const OpTimes& times) {
  nlohmann::json ops = nlohmann::json::array();
  for (const OpShare& op : times.ops) {
    nlohmann::json entry = {{"op", op.total.op},
                            {"shape", op.total.shape},
                            {"calls", op.total.calls},
                            {"seconds", op.total.seconds},
                            {"share", op.share},
                            {"gb_per_s", per_second(op.total.cost.bytes, op)},
                            {"gflop_per_s", per_second(op.total.cost.flops, op)}};
    if (*op.bound != '\0') {
      entry["bound"] = op.bound;
      entry["of_bound"] = op.of_bound;
    }
    ops.push_back(std::move(entry));
  }
  return {{"seconds", times.seconds}, {"ops", ops}, {"other_share", times.other}};
}

void print(const OpTimes& times) {
  fmt::print("  {:<44} {:>5} {:>9} {:>6} {:>7} {:>8}  {}\n", "op", "calls", "ms", "share", "GB/s", "GFLOP/s",
             "of the ceiling");
  for (const OpShare& op : times.ops) {
    const std::string ceiling = *op.bound == '\0' ? "" : fmt::format("{:.0f}% of {}", 100 * op.of_bound, op.bound);
    fmt::print("  {:<44} {:>5} {:>9.3f} {:>5.1f}% {:>7.1f} {:>8.1f}  {}\n", op.total.op + "  " + op.total.shape,
               op.total.calls, 1e3 * op.total.seconds, 100 * op.share, per_second(op.total.cost.bytes, op),
               per_second(op.total.cost.flops, op), ceiling);
  }
  fmt::print("  {:<44} {:>5} {:>9.3f} {:>5.1f}%\n", "other", "", 1e3 * times.other * times.seconds, 100 * times.other);
  fmt::print("  {:<44} {:>5} {:>9.3f}\n", "the whole", "", 1e3 * times.seconds);
}

}  // namespace molt::cli
