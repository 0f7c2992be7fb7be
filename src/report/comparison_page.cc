#include "report/comparison_page.h"

#include <fmt/format.h>

#include "report/html.h"
#include "report/plot.h"

namespace molt::report {
namespace {

std::string megabytes(double bytes) {
  return fmt::format("{:.0f} MB", bytes / 1e6);
}

/// Every setting's share of what the dense model takes.
template <class Amount>
Plot share_plot(const Comparison& comparison, const std::string& title, const std::string& y_label, bool falls,
                const Amount& amount) {
  Plot plot{.title = title,
            .x_label = "FLOPs cut",
            .y_label = y_label,
            .baseline = 1,
            .falls_with_x = falls,
            .signed_y = false,
            .series = {}};
  const double dense = amount(comparison.settings.front());
  for (std::size_t s = 1; s < comparison.settings.size(); ++s) {
    const Compared& setting = comparison.settings[s];
    const double cut = setting.reading.record.cut();
    const double share = amount(setting) / dense;
    plot.series.push_back(
        {setting.reading.setting,
         s - 1,
         {{.x = cut,
           .y = share,
           .text = fmt::format("{}: {:.1f}% cut, {:.2f} of dense", setting.reading.setting, 100 * cut + 0.0, share)}}});
  }
  return plot;
}

Plot nll_plot(const Comparison& comparison) {
  Plot plot{.title = "NLL of the next tokens",
            .x_label = "FLOPs cut",
            .y_label = "change from dense, in nats; lower is better",
            .baseline = 0,
            .falls_with_x = false,
            .signed_y = true,
            .series = {}};
  for (std::size_t s = 1; s < comparison.settings.size(); ++s) {
    const Compared& setting = comparison.settings[s];
    if (!setting.nll) continue;
    const double cut = setting.reading.record.cut();
    const double change = *setting.nll - *comparison.settings.front().nll;
    plot.series.push_back(
        {setting.reading.setting,
         s - 1,
         {{.x = cut,
           .y = change,
           .text = fmt::format("{}: {:.1f}% cut, {:+.3f}", setting.reading.setting, 100 * cut + 0.0, change)}}});
  }
  return plot;
}

std::string plots(const Comparison& comparison) {
  const Plot time = share_plot(comparison, "time to read", "share of dense; dotted: if time followed the FLOPs", true,
                               [](const Compared& s) { return s.seconds; });
  const Plot memory =
      share_plot(comparison, "working memory",
                 fmt::format("share of dense, which takes {:.1f} MB besides the weights",
                             static_cast<double>(comparison.settings.front().reading.scratch_bytes) / 1e6),
                 false, [](const Compared& s) { return static_cast<double>(s.reading.scratch_bytes); });
  return fmt::format("{}<div class=\"plots\">\n{}{}{}</div>\n", legend(time.series), to_svg(nll_plot(comparison)),
                     to_svg(time), to_svg(memory));
}

std::string texts(const Comparison& comparison) {
  std::string html = "<div class=\"texts\">\n";
  const auto add = [&](const char* kind, const std::string& name, const std::string& text) {
    html += fmt::format("<figure{}><figcaption>{}</figcaption><blockquote>{}</blockquote></figure>\n", kind,
                        escape(name), escape(text));
  };
  if (comparison.suffix_tokens > 0) add(" class=\"truth\"", "the text itself", comparison.suffix);
  for (const Compared& setting : comparison.settings) add("", setting.reading.setting, setting.text);
  return html + "</div>\n";
}

}  // namespace

std::vector<std::vector<std::string>> to_table(const Comparison& comparison) {
  const Compared& dense = comparison.settings.front();
  std::vector<std::vector<std::string>> rows{{"", "FLOPs", "time", "speed", "memory", "working"}};
  if (dense.nll) rows[0].insert(rows[0].end(), {"NLL", "change", "KL"});
  for (const Compared& setting : comparison.settings) {
    std::vector<std::string>& row = rows.emplace_back();
    row = {setting.reading.setting,
           fmt::format("{:.1f}%", -100 * setting.reading.record.cut() + 0.0),
           fmt::format("{:.1f} ms", 1e3 * setting.seconds),
           fmt::format("{:.2f}x", dense.seconds / setting.seconds),
           setting.peak_memory_bytes ? megabytes(static_cast<double>(*setting.peak_memory_bytes)) : "-",
           fmt::format("{:.1f} MB", static_cast<double>(setting.reading.scratch_bytes) / 1e6)};
    if (!setting.nll) continue;
    row.push_back(fmt::format("{:.3f}", *setting.nll));
    if (&setting == &dense) continue;
    row.push_back(fmt::format("{:+.3f}", *setting.nll - *dense.nll));
    row.push_back(fmt::format("{:.4f}", setting.kl.value_or(0)));
  }
  return rows;
}

std::string comparison_page(const Comparison& comparison) {
  const bool reduces = comparison.settings.size() > 1;
  TokenMap map{comparison.tokens, comparison.layers, {}};
  for (std::size_t s = 1; s < comparison.settings.size(); ++s) map.readings.push_back(comparison.settings[s].reading);

  Page page;
  page.kind = "molt compare";
  page.title = comparison.model;
  page.lead =
      fmt::format("{} tokens read by the dense model and under {} reduction{}. One text shows, it does not prove.",
                  comparison.tokens.size(), map.readings.size(), map.readings.size() == 1 ? "" : "s");
  page.facts = comparison.facts;
  page.styles = reduces ? layer_styles(comparison.layers) : "";
  page.body = "<section>\n<h2>At a glance</h2>\n" + table(to_table(comparison), "time, memory and quality by setting");
  page.body += "<ul class=\"meaning\">\n";
  if (comparison.suffix_tokens > 0) {
    page.body += fmt::format(
        "<li><b>NLL</b> is -log p of the text's next {} tokens, the mean, in nats; <b>KL</b> the divergence of "
        "next-token "
        "distributions from the dense model's there. Lower is better.</li>\n",
        comparison.suffix_tokens);
  }
  page.body +=
      "<li><b>time</b> is that of reading the text, <b>memory</b> the most that the process held while it read, "
      "weights "
      "and program included, <b>working</b> what reading itself took of it.</li>\n</ul>\n";
  if (reduces) page.body += plots(comparison);
  page.body += fmt::format("</section>\n<section>\n<h2>How it goes on</h2>\n{}</section>\n", texts(comparison));
  if (reduces) {
    page.body += fmt::format("<section>\n<h2>What each method throws away</h2>\n{}</section>\n", to_html(map));
  }
  return to_html(page);
}

}  // namespace molt::report
