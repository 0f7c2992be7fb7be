// read_markup(): reads a page as strictly as XML, so that whatever slipped into it unescaped shows.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace molt::testing_support {

struct Element {
  std::string name;
  std::string attributes;  // as written
  std::string text;        // directly within it, as written
};

/// The elements of `html` in the order of their beginnings, into `elements` if it is not null. Fails for tags that are
/// not closed in order, attributes out of quotes, bare < > & and bytes that a page must not hold.
inline testing::AssertionResult read_markup(std::string_view html, std::vector<Element>* elements = nullptr) {
  const auto failure = [&](std::size_t at, const char* what) {
    return testing::AssertionFailure() << what << " at byte " << at << ": " << html.substr(at < 60 ? 0 : at - 60, 160);
  };
  std::vector<Element> all;
  std::vector<std::size_t> open;
  const std::string_view names = "abcdefghijklmnopqrstuvwxyz0123456789";
  for (std::size_t at = 0; at < html.size();) {
    const char c = html[at];
    if (c == '\0' || (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')) return failure(at, "a control");
    if (c == '>') return failure(at, "a bare >");
    if (c == '&') {
      const std::size_t end = html.find(';', at);
      if (end == std::string_view::npos || end - at > 6) return failure(at, "a bare &");
    }
    if (c != '<') {
      if (!open.empty()) all[open.back()].text += c;
      ++at;
      continue;
    }
    if (html.substr(at).starts_with("<!DOCTYPE html>")) {
      at += 15;
      continue;
    }
    const bool closes = at + 1 < html.size() && html[at + 1] == '/';
    const std::size_t begin = at + (closes ? 2 : 1);
    const std::size_t name_end = std::min(html.find_first_not_of(names, begin), html.size());
    const std::string name(html.substr(begin, name_end - begin));
    if (name.empty()) return failure(at, "a bare <");
    std::size_t end = name_end;
    for (bool quoted = false; end < html.size() && (quoted || html[end] != '>'); ++end) {
      if (html[end] == '"') quoted = !quoted;
      if (html[end] == '<') return failure(end, "a < within a tag");
    }
    if (end >= html.size()) return failure(at, "a tag without an end");
    std::string attributes(html.substr(name_end, end - name_end));
    at = end + 1;
    if (closes) {
      if (open.empty() || all[open.back()].name != name) return failure(at, "a tag closed out of order");
      open.pop_back();
      continue;
    }
    const bool is_void = name == "meta" || name == "input" || attributes.ends_with("/");
    all.push_back({name, std::move(attributes), ""});
    if (is_void) continue;
    open.push_back(all.size() - 1);
    if (name == "style" || name == "script") {
      const std::size_t close = html.find("</" + name, at);
      if (close == std::string_view::npos) return failure(at, "no end of style or script");
      all.back().text = html.substr(at, close - at);
      at = close;
    }
  }
  if (!open.empty()) return testing::AssertionFailure() << "<" << all[open.back()].name << "> is not closed";
  if (elements != nullptr) *elements = std::move(all);
  return testing::AssertionSuccess();
}

/// Whether a page would load anything from anywhere.
inline testing::AssertionResult loads_nothing(const std::string& html) {
  std::vector<Element> elements;
  if (const auto read = read_markup(html, &elements); !read) return read;
  for (const Element& element : elements) {
    for (const char* name : {"link", "img", "iframe", "object", "embed", "base", "form", "video", "audio", "source"}) {
      if (element.name == name) return testing::AssertionFailure() << "there is a <" << name << ">";
    }
    // Outside of quotes: within them anything is text.
    std::string names;
    bool quoted = false;
    for (const char c : element.attributes) {
      if (c == '"') quoted = !quoted;
      if (!quoted) names += c;
    }
    for (const char* attribute : {" src=", " srcset=", " action=", " data=", " onload=", " onclick="}) {
      if (names.find(attribute) != std::string::npos) {
        return testing::AssertionFailure() << element.name << " has" << attribute;
      }
    }
    if (element.name == "a" && element.attributes.find("href=\"#") == std::string::npos) {
      return testing::AssertionFailure() << "a link leaves the page:" << element.attributes;
    }
    if (element.name != "style" && element.name != "script") continue;
    for (const char* call : {"url(", "@import", "fetch(", "import ", "XMLHttp", "http:", "https:"}) {
      if (element.text.find(call) != std::string::npos) {
        return testing::AssertionFailure() << element.name << " holds " << call;
      }
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace molt::testing_support
