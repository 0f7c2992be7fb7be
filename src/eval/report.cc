#include "eval/report.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "eval/score_json.h"

namespace molt::eval {
namespace {

using TextRow = std::vector<std::string>;

/// "3.412 ± 0.041", "+0.038 ± 0.010".
std::string show(const Estimate& estimate, bool sign) {
  const std::string mean = sign ? fmt::format("{:+.4f}", estimate.mean) : fmt::format("{:.4f}", estimate.mean);
  return std::isfinite(estimate.error) ? fmt::format("{} ± {:.4f}", mean, estimate.error) : mean;
}

const Metric* metric_of(const Task& task, const std::string& name) {
  for (const Metric& metric : task.metrics) {
    if (metric.name == name) return &metric;
  }
  return nullptr;  // kl
}

std::string exp_name_of(const Task& task, const std::string& name) {
  const Metric* metric = metric_of(task, name);
  return metric != nullptr ? metric->exp_name : "";
}

std::string task_to_text(const TaskReport& task) {
  std::string text = fmt::format("{}: {}\n", task.name, task.task->summary);
  for (const Metric& metric : task.task->metrics) text += fmt::format("  {}: {}\n", metric.name, metric.help);
  if (task.items < task.items_read) {
    text += fmt::format("  stopped early: {} of {} items scored under every setting\n", task.items, task.items_read);
  }
  for (const GroupReport* group : shown_groups(task)) {
    text += fmt::format("\n{}{}{}\n{}", group->name, group->name.empty() ? "" : ": ", size_of(*group),
                        align(to_table(task, *group)));
  }
  return text;
}

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json to_json(const Estimate& estimate) {
  return {{"mean", number(estimate.mean)}, {"error", number(estimate.error)}};
}

Json to_json(const Task& task, const Row& row) {
  Json figures = Json::object();
  for (const Figure& figure : row.figures) {
    Json entry = to_json(figure.value);
    if (figure.change) entry["change"] = to_json(*figure.change);
    if (const std::string name = exp_name_of(task, figure.metric); !name.empty()) {
      const double value = std::exp(figure.value.mean);
      entry[name] = {{"mean", number(value)}, {"error", number(value * figure.value.error)}};
    }
    figures[figure.metric] = std::move(entry);
  }
  return {{"setting", row.setting}, {"cut_asked", row.cut_asked ? Json(*row.cut_asked) : Json(nullptr)},
          {"cut", row.cut},         {"reduced_share", row.reduced},
          {"seconds", row.seconds}, {"tokens", row.tokens},
          {"figures", figures}};
}

}  // namespace

std::string align(const std::vector<TextRow>& rows) {
  // Characters, not bytes: all that is not ASCII here is the sign ± of two.
  const auto width_of = [](const std::string& cell) {
    return cell.size() - static_cast<std::size_t>(std::count(cell.begin(), cell.end(), '\xC2'));
  };
  std::vector<std::size_t> widths;
  for (const TextRow& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(row[c]));
  }
  std::string text;
  for (const TextRow& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string blank(widths[c] - width_of(row[c]), ' ');
      line += c > 0 ? fmt::format("   {}{}", blank, row[c]) : fmt::format("  {}{}", row[c], blank);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::vector<TextRow> to_table(const TaskReport& task, const GroupReport& group) {
  const Row& dense = group.rows.front();
  const bool compares = group.rows.size() > 1;
  std::vector<TextRow> rows(1);
  rows[0] = {""};
  for (const Figure& figure : group.rows.back().figures) {
    rows[0].push_back(figure.metric);
    if (const std::string name = exp_name_of(*task.task, figure.metric); !name.empty()) rows[0].push_back(name);
    if (figure.change) rows[0].push_back("change");
  }
  if (compares) rows[0].insert(rows[0].end(), {"cut", "reduced"});
  rows[0].push_back("time");
  if (compares) rows[0].push_back("of dense");
  for (const Row& row : group.rows) {
    TextRow& cells = rows.emplace_back(TextRow{row.setting});
    for (const Figure& figure : group.rows.back().figures) {
      const auto own = std::find_if(row.figures.begin(), row.figures.end(),
                                    [&](const Figure& f) { return f.metric == figure.metric; });
      const bool has = own != row.figures.end();
      cells.push_back(has ? show(own->value, false) : "");
      if (!exp_name_of(*task.task, figure.metric).empty()) {
        cells.push_back(fmt::format("{:.3f}", std::exp(own->value.mean)));
      }
      if (figure.change) cells.push_back(has && own->change ? show(*own->change, true) : "");
    }
    const bool is_dense = &row == &dense;
    if (compares) {
      cells.push_back(is_dense ? "" : fmt::format("{:.1f}%", 100 * row.cut));
      cells.push_back(is_dense ? "" : fmt::format("{:.0f}%", 100 * row.reduced));
    }
    cells.push_back(fmt::format("{:.1f} s", row.seconds));
    if (compares) cells.push_back(dense.seconds > 0 ? fmt::format("{:.2f}", row.seconds / dense.seconds) : "");
  }
  return rows;
}

std::vector<const GroupReport*> shown_groups(const TaskReport& task) {
  std::vector<const GroupReport*> groups;
  for (const GroupReport& group : task.groups) {
    if (!group.name.empty() || task.groups.size() == 1) groups.push_back(&group);
  }
  return groups;
}

std::string size_of(const GroupReport& group) {
  const Estimate& size = group.rows.front().figures.front().value;
  return fmt::format("{} items{}", size.items,
                     size.clusters < size.items ? fmt::format(" from {} documents", size.clusters) : "");
}

std::string to_text(const Evaluation& evaluation) {
  std::string text;
  for (const TaskReport& task : evaluation.tasks)
    text += fmt::format("{}{}", text.empty() ? "" : "\n", task_to_text(task));
  return text;
}

Json to_json(const Evaluation& evaluation) {
  Json tasks = Json::array();
  for (const TaskReport& task : evaluation.tasks) {
    Json groups = Json::array();
    for (const GroupReport& group : task.groups) {
      Json rows = Json::array();
      for (const Row& row : group.rows) rows.push_back(to_json(*task.task, row));
      const Estimate& size = group.rows.front().figures.front().value;
      groups.push_back({{"group", group.name.empty() ? "all" : group.name},
                        {"items", size.items},
                        {"documents", size.clusters},
                        {"settings", std::move(rows)}});
    }
    Json metrics = Json::object();
    for (const Metric& metric : task.task->metrics) {
      metrics[metric.name] = {{"help", metric.help}, {"higher_is_better", metric.higher_is_better}};
    }
    tasks.push_back({{"task", task.name},
                     {"items", task.items},
                     {"items_read", task.items_read},
                     {"metrics", std::move(metrics)},
                     {"groups", std::move(groups)}});
  }
  return tasks;
}

Json samples_to_json(const TaskItems& task, const TaskReport& report, const Tokenizer& tokenizer) {
  Json samples = Json::array();
  for (const Sample& sample : report.samples) {
    const Item& item = task.items[sample.item];
    Json requests = Json::array();
    for (const Request& request : item.requests) {
      requests.push_back({{"context_tokens", request.context.size()},
                          {"continuation", tokenizer.decode(request.continuation)},
                          {"continuation_ids", request.continuation}});
    }
    Json settings = Json::object();
    for (std::size_t s = 0; s < sample.scores.size(); ++s) {
      const std::vector<Score>& scores = sample.scores[s];
      Json entry{{"figures", Json::object()}, {"scores", Json::array()}};
      for (const Metric& metric : task.task->metrics) {
        entry["figures"][metric.name] = number(metric.value(item, scores));
      }
      for (const Score& score : scores) entry["scores"].push_back(to_json(score));
      settings[report.settings[s]] = std::move(entry);
    }
    samples.push_back({{"item", sample.item},
                       {"document", item.cluster},
                       {"groups", item.groups},
                       {"requests", std::move(requests)},
                       {"settings", std::move(settings)}});
  }
  return samples;
}

}  // namespace molt::eval
