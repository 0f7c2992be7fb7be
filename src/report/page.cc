#include "report/page.h"

#include <fmt/format.h>

#include "report/html.h"

namespace molt::report {
namespace {

/// Whatever a page holds, it loads nothing and sends nothing.
constexpr std::string_view kPolicy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

}  // namespace

std::string to_html(const Page& page) {
  std::string facts;
  for (const Fact& fact : page.facts) {
    facts += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(fact.name), escape(fact.value));
  }
  if (!facts.empty()) facts = fmt::format("<dl class=\"facts\">\n{}</dl>\n", facts);
  return fmt::format(
      "<!DOCTYPE html>\n"
      "<html lang=\"en\">\n"
      "<head>\n"
      "<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      "<title>{kind}: {title}</title>\n"
      "<style>{style}{styles}</style>\n"
      "</head>\n"
      "<body>\n"
      "<header>\n<p class=\"kind\">{kind}</p>\n<h1>{title}</h1>\n<p class=\"lead\">{lead}</p>\n{facts}</header>\n"
      "<main>\n{body}</main>\n"
      "<script>{script}</script>\n"
      "</body>\n"
      "</html>\n",
      fmt::arg("policy", kPolicy), fmt::arg("kind", escape(page.kind)), fmt::arg("title", escape(page.title)),
      fmt::arg("lead", escape(page.lead)), fmt::arg("style", kStyle), fmt::arg("styles", page.styles),
      fmt::arg("facts", facts), fmt::arg("body", page.body), fmt::arg("script", kScript));
}

}  // namespace molt::report
