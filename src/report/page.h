// Page: one self-contained HTML page: no network, no JavaScript but for details on hover, light and dark, phones too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace molt::report {

/// Something to know about a run: "weights", "bf16".
struct Fact {
  std::string name;
  std::string value;
};

struct Page {
  std::string kind;   // what made it: "molt eval"
  std::string title;  // what it is about
  std::string lead;   // a sentence
  std::vector<Fact> facts;
  std::string styles;  // CSS besides the page's own
  std::string body;    // HTML; all else is text
};

/// The whole page.
std::string to_html(const Page& page);

/// What every page looks like, and does: style.cc, script.cc.
extern const std::string_view kStyle;
extern const std::string_view kScript;

}  // namespace molt::report
