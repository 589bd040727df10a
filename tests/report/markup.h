// A small judge of pages: are tags balanced, quotes closed, references real; and what a page is not allowed
// to load.
#pragma once

#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace apo::testing {

// What is wrong with the markup, or nothing. Stricter than a browser: every tag is closed, every attribute
// quoted.
inline std::string markup_fault(std::string_view html) {
  std::vector<std::string> open;
  size_t i = 0;
  const auto near = [&](size_t at) { return " near: " + std::string(html.substr(at, 80)); };
  while (i < html.size()) {
    if (html[i] == '&') {
      const size_t end = html.find(';', i);
      if (end == std::string_view::npos || end - i > 8) return "a bare &" + near(i);
    }
    if (html[i] == '>') return "a bare >" + near(i);
    if (html[i] != '<') {
      ++i;
      continue;
    }
    if (html.substr(i, 9) == "<!DOCTYPE") {
      i = html.find('>', i) + 1;
      continue;
    }
    const bool closing = html[i + 1] == '/';
    size_t at = i + (closing ? 2 : 1);
    std::string name;
    while (at < html.size() && std::isalnum(static_cast<unsigned char>(html[at]))) name += html[at++];
    if (name.empty()) return "a bare <" + near(i);
    bool self_closed = false;
    for (; at < html.size() && html[at] != '>'; ++at) {
      if (html[at] == '<') return "a < inside a tag" + near(i);
      self_closed = html[at] == '/';
      if (html[at] == '=') {
        if (html[at + 1] != '"') return "an attribute without quotes" + near(i);
        at = html.find('"', at + 2);
        if (at == std::string_view::npos) return "an open quote" + near(i);
      }
    }
    if (at >= html.size()) return "an open tag" + near(i);
    if (closing) {
      if (open.empty() || open.back() != name) return "</" + name + "> closes something else" + near(i);
      open.pop_back();
    } else if (!self_closed) {
      open.push_back(name);
    }
    i = at + 1;
    // scripts and style sheets are not markup
    if (!closing && (name == "script" || name == "style")) i = html.find("</" + name + ">", i);
  }
  return open.empty() ? "" : "<" + open.back() + "> is never closed";
}

inline int occurrences(std::string_view text, std::string_view what) {
  int count = 0;
  for (size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

// The value of the first `attribute="..."` at or behind the first occurrence of `anchor`; "?" if there is
// none.
inline std::string attribute_after(std::string_view text, std::string_view anchor,
                                   const std::string& attribute) {
  const size_t start = text.find(anchor);
  if (start == std::string_view::npos) return "?";
  const size_t at = text.find(" " + attribute + "=\"", start);
  if (at == std::string_view::npos) return "?";
  const size_t begin = at + attribute.size() + 3;
  return std::string(text.substr(begin, text.find('"', begin) - begin));
}

}  // namespace apo::testing
