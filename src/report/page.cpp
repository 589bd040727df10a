#include "report/page.h"

#include <string_view>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/output.h"
#include "report/html.h"

namespace apo::report {
namespace {

// page.css and page.js, as CMake embeds them.
constexpr std::string_view kStyle =
#include "report/page.css.inc"
    ;
constexpr std::string_view kScript =  // under the pointer: the nearest value of each curve
#include "report/page.js.inc"
    ;

// SHA-256 of the two, by which the page's policy allows them and nothing else (`openssl dgst -sha256 -binary
// | base64`).
constexpr std::string_view kStyleHash = "sha256-idIP1HTWfTfleTzc0i9iiG6e+Y4dW1HICCmipnQ7nwk=";
constexpr std::string_view kScriptHash = "sha256-DiKn88W4QP9D9eYbvcBOgiM5vRGkxIWpLI+8x//dRxo=";

std::string header(const Page& page) {
  std::string out = concat("<header>\n<h1>", escape(page.title), "</h1>\n");
  if (!page.subtitle.empty()) out += concat("<p class=\"sub\">", escape(page.subtitle), "</p>\n");
  if (!page.story.empty()) {
    out += "<div class=\"story\">\n";
    for (const std::string& sentence : page.story) out += concat("<p>", escape(sentence), "</p>\n");
    out += "</div>\n";
  }
  if (!page.notes.empty()) {
    out += "<ul class=\"notes\">\n";
    for (const std::string& note : page.notes) out += concat("<li>", escape(note), "</li>\n");
    out += "</ul>\n";
  }
  if (!page.tiles.empty()) {
    out += "<dl class=\"tiles\">\n";
    for (const Tile& tile : page.tiles)
      out += concat("<div class=\"tile\"><dt>", escape(tile.name), "</dt><dd class=\"value\">",
                    escape(tile.value), "</dd><dd class=\"detail\">", escape(tile.detail), "</dd></div>\n");
    out += "</dl>\n";
  }
  return out + "</header>\n";
}

// Of this and of every earlier version's pages.
constexpr const char* kBeginning =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";

}  // namespace

std::string render(const Page& page) {
  return concat(
      kBeginning,
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src '",
      kStyleHash, "'; script-src '", kScriptHash, "'; base-uri 'none'; form-action 'none'\"/>\n<title>",
      escape(page.title), "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n", header(page),
      "<main>\n", page.body, "</main>\n<script>", kScript, "</script>\n</body>\n</html>\n");
}

void write_page(const std::filesystem::path& directory, const Page& page) {
  const std::filesystem::path file = directory / "report.html";
  check_kind("report", file, text_beginning("an earlier report", kBeginning));
  write_file_atomic(file, render(page));
}

std::string section(const std::string& title, const std::string& content, const std::string& lead) {
  if (content.empty()) return "";
  return concat("<section>\n<h2>", escape(title), "</h2>\n",
                lead.empty() ? "" : concat("<p class=\"lead\">", escape(lead), "</p>\n"), content,
                "</section>\n");
}

std::string folded(const std::string& title, const std::string& content) {
  if (content.empty()) return "";
  return concat("<details>\n<summary>", escape(title), "</summary>\n", content, "</details>\n");
}

std::string grid(const std::string& charts) {
  return charts.empty() ? "" : concat("<div class=\"grid\">\n", charts, "</div>\n");
}

std::string wide_grid(const std::string& charts) {
  return charts.empty() ? "" : concat("<div class=\"wide\">\n", charts, "</div>\n");
}

std::string directory_name(const std::filesystem::path& dir) {
  const std::filesystem::path whole = std::filesystem::absolute(dir).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

}  // namespace apo::report
