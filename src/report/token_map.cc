#include "report/token_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/check.h"
#include "io/tokenizer/utf8.h"
#include "report/colours.h"
#include "report/html.h"

namespace molt::report {
namespace {

constexpr std::size_t kShownTokens = 4096;  // of a passage, at most; half of them from each end

using Kind = TokenFate::Kind;
constexpr Kind kKinds[] = {Kind::pruned, Kind::merged, Kind::bypass, Kind::write_only};

/// The class that marks tokens of a kind.
const char* class_of(Kind kind) {
  switch (kind) {
    case Kind::pruned: return "p";
    case Kind::merged: return "m";
    case Kind::bypass: return "b";
    case Kind::write_only: return "w";
  }
  return "";
}

const char* meaning_of(Kind kind) {
  switch (kind) {
    case Kind::pruned: return "left for good";
    case Kind::merged: return "was added to another token";
    case Kind::bypass: return "skipped some blocks and came back";
    case Kind::write_only: return "left, but kept writing to states";
  }
  return "";
}

/// "behind block 3", "before the first block".
std::string place(std::int64_t site) {
  return site < 0 ? "before the first block" : fmt::format("behind block {}", site);
}

std::string describe(const TokenFate& fate) {
  std::string text = fmt::format("{} {}", name_of(fate.kind), place(fate.site));
  if (fate.kind == Kind::merged) {
    const auto into = [](std::int64_t position) {
      return position < 0 ? std::string("dropped") : fmt::format("into {}", position);
    };
    text += fate.hidden_into == fate.residual_into
                ? fmt::format(" {}", into(fate.hidden_into))
                : fmt::format(" (hidden branch {}, residual {})", into(fate.hidden_into), into(fate.residual_into));
  }
  if (fate.return_at >= 0) text += fmt::format(", back before block {}", fate.return_at);
  return text;
}

/// One setting's part of the map.
class Sheet {
 public:
  Sheet(const TokenMap& map, const eval::PassageReading& reading)
      : map_(map), reading_(reading), fates_(map.tokens.size()) {
    MOLT_CHECK(reading.record.tokens == static_cast<std::int64_t>(map.tokens.size()));
    for (const TokenFate& fate : reading.record.fates) {
      fates_[static_cast<std::size_t>(fate.position)].push_back(&fate);
    }
    for (const auto& fates : fates_) {
      if (fates.empty()) continue;
      ++left_behind_[fates.front()->site];
      ++of_kind_[fates.front()->kind];
      ++leavers_;
    }
  }

  std::string draw() const {
    return fmt::format("<section class=\"map\" aria-label=\"{}\">\n{}{}{}{}</section>\n", escape(reading_.setting),
                       summary(), blocks(), keys(), passage());
  }

 private:
  std::string summary() const {
    const std::size_t tokens = map_.tokens.size();
    return fmt::format("<p>{:.1f}% of the FLOPs cut. {} of {} tokens run every block, {} do not.</p>\n",
                       100 * reading_.record.cut() + 0.0, tokens - leavers_, tokens, leavers_);
  }

  std::int64_t left_behind(std::int64_t site) const {
    const auto it = left_behind_.find(site);
    return it == left_behind_.end() ? 0 : it->second;
  }

  /// A column a block: how many tokens run it, and the colour of those that leave behind it.
  std::string blocks() const {
    const ReductionRecord& record = reading_.record;
    const double tokens = static_cast<double>(std::max<std::int64_t>(1, record.tokens));
    std::int64_t labels = 1;  // every so many blocks
    while (map_.layers / labels > 16) labels *= 2;
    std::string columns;
    std::string words;
    for (std::int64_t block = -1; block < map_.layers; ++block) {
      const auto at = static_cast<std::size_t>(std::max<std::int64_t>(0, block));
      const std::int64_t full = block < 0 || record.full.empty() ? record.tokens : record.full[at];
      const std::int64_t writing = block < 0 || record.writing.empty() ? 0 : record.writing[at];
      const std::int64_t left = left_behind(block);
      std::string text = block < 0 ? fmt::format("{} tokens", full) : fmt::format("block {}: {} tokens", block, full);
      if (writing > 0) text += fmt::format(", {} more only write", writing);
      if (left > 0) text += fmt::format("; {} leave {}", left, place(block));
      if (!words.empty()) words += ". ";
      words += text;
      const std::string label = block < 0 ? "in" : block % labels == 0 ? std::to_string(block) : "";
      columns += fmt::format(
          "<span title=\"{}\"><b style=\"--f:{:.1f}%;--w:{:.1f}%\"></b><b class=\"l{}{}\"></b><small>{}</small></span>",
          escape(text), 100 * static_cast<double>(full) / tokens, 100 * static_cast<double>(writing) / tokens,
          block + 1, left > 0 ? "" : " none", label);
    }
    return fmt::format(
        "<figure class=\"blocks\">\n<figcaption>Tokens that run each block; below, the colour of those that leave "
        "behind it</figcaption>\n<div role=\"img\" aria-label=\"{}\">{}</div>\n</figure>\n",
        escape(words), columns);
  }

  /// What marks mean: of the kinds that occur.
  std::string keys() const {
    std::string items;
    for (const Kind kind : kKinds) {
      const auto it = of_kind_.find(kind);
      if (it == of_kind_.end()) continue;
      items += fmt::format("<li><i class=\"{}\">{}</i> ({}) {}</li>\n", class_of(kind), name_of(kind), it->second,
                           meaning_of(kind));
    }
    return items.empty() ? "" : fmt::format("<ul class=\"keys\">\n{}</ul>\n", items);
  }

  std::string passage() const {
    const std::size_t count = fates_.size();
    std::string html = "<div class=\"passage\">\n";
    if (count <= kShownTokens) {
      html += stretch(0, count);
    } else {
      const std::size_t half = kShownTokens / 2;
      html += stretch(0, half);
      html += fmt::format("<p class=\"gap\">{} tokens in the middle are not shown</p>\n", count - 2 * half);
      html += stretch(count - half, count);
    }
    return html + "</div>\n<p class=\"status\" aria-live=\"polite\" hidden></p>\n";
  }

  std::string stretch(std::size_t begin, std::size_t end) const {
    std::string html = fmt::format("<p data-first=\"{}\">", begin);
    for (std::size_t i = begin; i < end; ++i) html += token(i);
    return html + "</p>\n";
  }

  std::string token(std::size_t position) const {
    const MapToken& shown = map_.tokens[position];
    std::string attributes;
    std::string classes = shown.special ? "z" : "";
    const std::vector<const TokenFate*>& fates = fates_[position];
    if (!fates.empty()) {
      const TokenFate& first = *fates.front();
      classes += fmt::format("{}{} l{}", classes.empty() ? "" : " ", class_of(first.kind), first.site + 1);
      std::string words = std::to_string(position);
      for (const TokenFate* fate : fates) {
        words += fmt::format("{} {}", fate == fates.front() ? ":" : ", then", describe(*fate));
        if (fate->kind != Kind::merged) continue;
        if (fate->hidden_into >= 0) attributes += fmt::format(" data-h=\"{}\"", fate->hidden_into);
        if (fate->residual_into >= 0) attributes += fmt::format(" data-r=\"{}\"", fate->residual_into);
        break;  // who was merged does not come back
      }
      attributes += fmt::format(" title=\"{}\"", escape(words));
    }
    if (!classes.empty()) attributes = fmt::format(" class=\"{}\"{}", classes, attributes);
    return fmt::format("<i{}>{}</i>", attributes, text_of(shown));
  }

  /// The text of a token, so that nobody is without a mark of his own.
  static std::string text_of(const MapToken& token) {
    if (token.goes_on) return "<s>·</s>";
    if (token.text.empty()) return "<s>∅</s>";
    std::string html;
    std::string_view rest = token.text;
    while (!rest.empty()) {
      const std::size_t at = std::min(rest.find_first_of("\n\t"), rest.size());
      html += escape(rest.substr(0, at));
      if (at < rest.size()) html += rest[at] == '\n' ? "<s>↵</s>\n" : "<s>⇥</s>\t";
      rest.remove_prefix(std::min(at + 1, rest.size()));
    }
    return html;
  }

  const TokenMap& map_;
  const eval::PassageReading& reading_;
  std::vector<std::vector<const TokenFate*>> fates_;  // of each token, in order
  std::map<std::int64_t, std::int64_t> left_behind_;  // tokens by the site behind which they first left
  std::map<Kind, std::int64_t> of_kind_;              // and by how
  std::size_t leavers_ = 0;
};

}  // namespace

std::vector<MapToken> spell(std::span<const std::string_view> tokens) {
  std::string bytes;
  std::vector<std::size_t> ends;
  for (const std::string_view token : tokens) {
    bytes += token;
    ends.push_back(bytes.size());
  }
  std::vector<MapToken> shown(tokens.size());
  std::size_t token = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    while (at >= ends[token]) ++token;
    const std::string_view rest = std::string_view(bytes).substr(at);
    std::size_t length = 1;
    if (utf8::scan(rest.substr(0, 4)).valid > 0) {
      length = utf8::decode(rest, 0).length;
      shown[token].text += rest.substr(0, length);
    } else {
      shown[token].text += "\uFFFD";
    }
    at += length;
  }
  for (std::size_t i = 0; i < shown.size(); ++i) shown[i].goes_on = shown[i].text.empty() && !tokens[i].empty();
  return shown;
}

std::vector<MapToken> spell(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  std::vector<std::string_view> bytes;
  for (const TokenId id : ids) bytes.push_back(tokenizer.token_bytes(id));
  std::vector<MapToken> tokens = spell(bytes);
  for (std::size_t i = 0; i < ids.size(); ++i) tokens[i].special = tokenizer.is_special(ids[i]);
  return tokens;
}

std::string layer_styles(std::int64_t layers) {
  const auto rules = [&](bool dark) {
    std::string css;
    for (std::int64_t i = 0; i <= layers; ++i) {
      const double along = layers > 0 ? static_cast<double>(i) / static_cast<double>(layers) : 0;
      const Colour colour = viridis(dark ? 1 - along : along);
      css += fmt::format(".l{}{{--bg:{};--fg:{}}}\n", i, css_of(colour), is_light(colour) ? "#000" : "#fff");
    }
    return css;
  };
  return fmt::format("\n{}@media (prefers-color-scheme: dark) {{\n{}}}\n", rules(false), rules(true));
}

std::string to_html(const TokenMap& map) {
  if (map.readings.empty()) return "";
  std::string html =
      "<p>A token's colour tells behind which block it first left, its mark how. Plain tokens ran every block.</p>\n"
      "<div class=\"maps\">\n";
  for (std::size_t i = 0; i < map.readings.size(); ++i) {
    html += fmt::format("<input type=\"radio\" name=\"map\" id=\"map{0}\"{1}><label for=\"map{0}\">{2}</label>\n{3}", i,
                        i == 0 ? " checked" : "", escape(map.readings[i].setting), Sheet(map, map.readings[i]).draw());
  }
  return html + "</div>\n";
}

}  // namespace molt::report
