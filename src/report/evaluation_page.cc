#include "report/evaluation_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "eval/report.h"
#include "report/html.h"
#include "report/plot.h"

namespace molt::report {
namespace {

/// Collects points to series, which keep their style all over a page.
class SeriesBook {
 public:
  explicit SeriesBook(const eval::Evaluation& evaluation) {
    for (const eval::TaskReport& task : evaluation.tasks) {
      for (std::size_t s = 1; s < task.settings.size(); ++s) style_of(task.settings[s]);
    }
  }

  /// Series of the settings' points, by x.
  std::vector<Series> collect(const std::vector<std::pair<std::string, Point>>& points) {
    std::map<std::size_t, Series> by_style;
    for (const auto& [setting, point] : points) {
      const std::size_t style = style_of(setting);
      Series& series = by_style.try_emplace(style, Series{names_[style], style, {}}).first->second;
      series.points.push_back(point);
    }
    std::vector<Series> all;
    for (auto& [style, series] : by_style) {
      std::stable_sort(series.points.begin(), series.points.end(),
                       [](const Point& a, const Point& b) { return a.x < b.x; });
      all.push_back(std::move(series));
    }
    return all;
  }

  std::string to_legend() const {
    std::vector<Series> all;
    for (std::size_t i = 0; i < names_.size(); ++i) all.push_back({names_[i], i, {}});
    return legend(all);
  }

 private:
  std::size_t style_of(const std::string& setting) {
    const std::string name = series_name(setting);
    const auto it = std::find(names_.begin(), names_.end(), name);
    if (it == names_.end()) names_.push_back(name);
    return static_cast<std::size_t>(std::find(names_.begin(), names_.end(), name) - names_.begin());
  }

  std::vector<std::string> names_;
};

std::string percent(double share) {
  return fmt::format("{:.1f}%", 100 * share + 0.0);
}

const eval::Metric* metric_of(const eval::TaskReport& task, const std::string& name) {
  const auto& metrics = task.task->metrics;
  const auto it = std::find_if(metrics.begin(), metrics.end(), [&](const auto& metric) { return metric.name == name; });
  return it == metrics.end() ? nullptr : &*it;
}

/// One figure of a group against the cut, reductions as they differ from dense; the divergence as it is.
Plot quality_plot(const eval::TaskReport& task, const eval::GroupReport& group, const std::string& figure_name,
                  SeriesBook& book) {
  std::vector<std::pair<std::string, Point>> points;
  for (std::size_t r = 1; r < group.rows.size(); ++r) {
    const eval::Row& row = group.rows[r];
    for (const eval::Figure& figure : row.figures) {
      if (figure.metric != figure_name) continue;
      const eval::Estimate& shown = figure.change ? *figure.change : figure.value;
      const std::string error = std::isfinite(shown.error) ? fmt::format(" ± {:.4f}", shown.error) : "";
      points.push_back({row.setting,
                        {row.cut, shown.mean, shown.error,
                         fmt::format("{}: {} cut, {:+.4f}{}", row.setting, percent(row.cut), shown.mean, error)}});
    }
  }
  const eval::Metric* metric = metric_of(task, figure_name);
  return {.title = fmt::format("{}{}{}", figure_name, group.name.empty() ? "" : ", ", group.name),
          .x_label = "FLOPs cut",
          .y_label = metric == nullptr ? "divergence from dense, in nats; lower is better"
                                       : fmt::format("change from dense; {} is better",
                                                     metric->higher_is_better ? "higher" : "lower"),
          .baseline = 0,
          .falls_with_x = false,
          .signed_y = metric != nullptr,
          .series = book.collect(points)};
}

Plot time_plot(const eval::GroupReport& all, SeriesBook& book) {
  const double dense = all.rows.front().seconds;
  std::vector<std::pair<std::string, Point>> points;
  for (std::size_t r = 1; r < all.rows.size(); ++r) {
    const eval::Row& row = all.rows[r];
    points.push_back(
        {row.setting,
         {.x = row.cut,
          .y = row.seconds / dense,
          .text = fmt::format("{}: {} cut, {:.2f} of dense", row.setting, percent(row.cut), row.seconds / dense)}});
  }
  return {.title = "time to read",
          .x_label = "FLOPs cut",
          .y_label = "share of dense; dotted: if time followed the FLOPs",
          .baseline = 1,
          .falls_with_x = true,
          .signed_y = false,
          .series = book.collect(points)};
}

Plot memory_plot(const PassageReport& passage, SeriesBook& book) {
  const auto dense = static_cast<double>(passage.readings.front().scratch_bytes);
  std::vector<std::pair<std::string, Point>> points;
  for (std::size_t r = 1; r < passage.readings.size(); ++r) {
    const eval::PassageReading& reading = passage.readings[r];
    const auto bytes = static_cast<double>(reading.scratch_bytes);
    points.push_back({reading.setting,
                      {.x = reading.record.cut(),
                       .y = bytes / dense,
                       .text = fmt::format("{}: {} cut, {:.1f} MB, {:.2f} of dense", reading.setting,
                                           percent(reading.record.cut()), bytes / 1e6, bytes / dense)}});
  }
  return {.title = fmt::format("working memory, {} tokens", passage.tokens.size()),
          .x_label = "FLOPs cut",
          .y_label = fmt::format("share of dense, which takes {:.1f} MB", dense / 1e6),
          .baseline = 1,
          .falls_with_x = false,
          .signed_y = false,
          .series = book.collect(points)};
}

std::string plots_of(const eval::TaskReport& task, SeriesBook& book) {
  std::string plots;
  for (const eval::GroupReport* group : eval::shown_groups(task)) {
    for (const eval::Figure& figure : group->rows.back().figures) {
      plots += to_svg(quality_plot(task, *group, figure.metric, book));
    }
  }
  plots += to_svg(time_plot(task.groups.front(), book));
  return plots.empty() ? "" : fmt::format("{}<div class=\"plots\">\n{}</div>\n", book.to_legend(), plots);
}

std::string section_of(const eval::TaskReport& task, std::size_t number, SeriesBook& book) {
  std::string html = fmt::format("<section id=\"task{}\">\n<h2>{}</h2>\n<p>{}</p>\n<ul class=\"meaning\">\n", number,
                                 escape(task.name), escape(task.task->summary));
  for (const eval::Metric& metric : task.task->metrics) {
    html += fmt::format("<li><b>{}</b>: {}</li>\n", escape(metric.name), escape(metric.help));
  }
  html += "</ul>\n";
  if (task.items < task.items_read) {
    html += fmt::format("<p class=\"warning\">Stopped early: {} of {} items scored under every setting.</p>\n",
                        task.items, task.items_read);
  }
  if (task.groups.empty()) return html + "</section>\n";
  for (const eval::GroupReport* group : eval::shown_groups(task)) {
    const std::string name = group->name.empty() ? "all items" : group->name;
    html += fmt::format("<h3>{} <small>{}</small></h3>\n{}", escape(name), escape(eval::size_of(*group)),
                        table(eval::to_table(task, *group), fmt::format("{}, {}", task.name, name)));
  }
  if (task.settings.size() > 1) html += plots_of(task, book);
  return html + "</section>\n";
}

std::string section_of(const PassageReport& passage, SeriesBook& book) {
  TokenMap map{passage.tokens, passage.layers, {passage.readings.begin() + 1, passage.readings.end()}};
  return fmt::format(
      "<section id=\"passage\">\n<h2>What each method throws away</h2>\n<p>{}, read under every setting.</p>\n{}"
      "<h3>Memory</h3>\n{}<div class=\"plots\">\n{}</div>\n</section>\n",
      escape(passage.name), to_html(map), book.to_legend(), to_svg(memory_plot(passage, book)));
}

constexpr const char* kHowToRead =
    "<section id=\"reading\">\n<h2>How to read this</h2>\n"
    "<ul class=\"meaning\">\n"
    "<li><b>±</b> and bars are one standard error of the mean; items of one document count as dependent.</li>\n"
    "<li><b>change</b> is the mean difference from the dense model, item by item, with the much smaller error of "
    "paired differences.</li>\n"
    "<li><b>cut</b> is the share of the layers' FLOPs that reading the contexts saved; short contexts may stay below "
    "what was asked. Contexts are reduced, what is scored is not.</li>\n"
    "<li><b>reduced</b> is the share of items of which anything was removed.</li>\n"
    "<li><b>time</b> is what reading the contexts took: as good as the machine was quiet.</li>\n"
    "</ul>\n</section>\n";

}  // namespace

std::string series_name(const std::string& setting) {
  const std::size_t colon = setting.find(':');
  if (colon == std::string::npos || setting.ends_with(".json")) return setting;
  std::string keys;
  for (std::size_t at = colon + 1; at < setting.size();) {
    const std::size_t end = std::min(setting.find(',', at), setting.size());
    const std::string key = setting.substr(at, end - at);
    if (!key.starts_with("flops=")) keys += (keys.empty() ? ':' : ',') + key;
    at = end + 1;
  }
  return setting.substr(0, colon) + keys;
}

std::string evaluation_page(const std::string& model, const std::vector<Fact>& facts,
                            const eval::Evaluation& evaluation, const PassageReport& passage) {
  SeriesBook book(evaluation);
  std::int64_t items = 0;
  std::size_t settings = 0;
  std::string links;
  std::string sections;
  const auto link = [&](const std::string& id, const std::string& name) {
    links += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", id, escape(name));
  };
  for (std::size_t t = 0; t < evaluation.tasks.size(); ++t) {
    const eval::TaskReport& task = evaluation.tasks[t];
    items += task.items;
    settings = task.settings.size() - 1;
    link(fmt::format("task{}", t), task.name);
    sections += section_of(task, t, book);
  }
  if (passage.readings.size() > 1) {
    link("passage", "Token map");
    sections += section_of(passage, book);
  }
  link("reading", "How to read this");

  Page page;
  page.kind = "molt eval";
  page.title = model;
  const auto count = [](auto n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); };
  page.lead =
      fmt::format("{} of {}, scored by the dense model{}", count(items, "item"), count(evaluation.tasks.size(), "task"),
                  settings == 0 ? "." : fmt::format(" and under {}.", count(settings, "reduction")));
  page.facts = facts;
  page.styles = passage.readings.size() > 1 ? layer_styles(passage.layers) : "";
  page.body = fmt::format("<nav aria-label=\"Contents\"><ul>\n{}</ul></nav>\n", links);
  if (!evaluation.complete) {
    page.body += "<p class=\"warning\">This run was stopped before all items were scored.</p>\n";
  }
  page.body += sections + kHowToRead;
  return to_html(page);
}

}  // namespace molt::report
