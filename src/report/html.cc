#include "report/html.h"

#include <fmt/format.h>

#include <cstdint>

#include "io/tokenizer/utf8.h"

namespace molt::report {
namespace {

/// Appends one character, escaped.
void append_escaped(std::uint32_t c, std::string& out) {
  switch (c) {
    case '&': out += "&amp;"; return;
    case '<': out += "&lt;"; return;
    case '>': out += "&gt;"; return;
    case '"': out += "&quot;"; return;
    case '\'': out += "&#39;"; return;
    case '\n':
    case '\t': out += static_cast<char>(c); return;
    default: break;
  }
  const bool turns_text = (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
  const bool no_character = (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE;
  if (c < 0x20) {
    utf8::append(0x2400 + c, out);  // their pictures: ␀ ...
  } else if (c == 0x7F) {
    utf8::append(0x2421, out);  // ... and ␡
  } else if (turns_text || no_character || (c >= 0x80 && c < 0xA0)) {
    out += fmt::format("[U+{:04X}]", c);
  } else {
    utf8::append(c, out);
  }
}

}  // namespace

std::string escape(std::string_view text) {
  std::string valid;
  utf8::append_lossy(text, true, valid);
  std::string out;
  out.reserve(valid.size());
  for (std::size_t at = 0; at < valid.size();) {
    const utf8::Decoded character = utf8::decode(valid, at);
    append_escaped(character.code_point, out);
    at += character.length;
  }
  return out;
}

std::string table(const std::vector<std::vector<std::string>>& rows, std::string_view name) {
  std::string html =
      fmt::format("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\n<table>\n", escape(name));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (r == 0) html += "<thead>\n";
    if (r == 1) html += "<tbody>\n";
    html += "<tr>";
    for (std::size_t c = 0; c < rows[0].size(); ++c) {
      const std::string cell = c < rows[r].size() ? escape(rows[r][c]) : "";
      if (r == 0 && c == 0 && cell.empty()) {
        html += "<td></td>";
      } else if (r == 0 || c == 0) {
        html += fmt::format("<th scope=\"{}\">{}</th>", r == 0 ? "col" : "row", cell);
      } else {
        html += fmt::format("<td>{}</td>", cell);
      }
    }
    html += "</tr>\n";
    if (r == 0) html += "</thead>\n";
  }
  if (rows.size() > 1) html += "</tbody>\n";
  return html + "</table>\n</div>\n";
}

}  // namespace molt::report
