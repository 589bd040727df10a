#include "report/page.h"

#include <string_view>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/output.h"
#include "report/html.h"

namespace apo::report {
namespace {

constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark;
  --page: #f6f6f4; --card: #ffffff; --text: #1c1c1a; --soft: #63635e; --rule: #e2e2dd; --axis: #9a9a94;
  --h0: #1f6fb4; --h1: #d1570f; --h2: #1b8a6b; --h3: #a8478a; --h4: #b38600; --h5: #4d4fa8; --h6: #8b8b85;
  --warn: #fff4d6; --warn-rule: #d9a400; }
@media (prefers-color-scheme: dark) { :root {
  --page: #161615; --card: #1f1f1e; --text: #ececea; --soft: #a3a39d; --rule: #363634; --axis: #6f6f6a;
  --h0: #5aa9ec; --h1: #f08a4b; --h2: #46c29c; --h3: #d98abf; --h4: #e0b93f; --h5: #9a9cf0; --h6: #96968f;
  --warn: #332a10; --warn-rule: #a88416; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1400px; padding: 24px 20px 48px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 34px 0 12px; }
h3 { font-size: 1rem; margin: 22px 0 8px; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 6px 0; overflow-wrap: anywhere; }
a { color: var(--h0); }
.sub { color: var(--soft); }
.lead { color: var(--soft); max-width: 88ch; margin: 0 0 12px; }
.story { font-size: 1.08rem; max-width: 78ch; margin: 16px 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 12px; margin: 18px 0; padding: 0; }
.tile, figure { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
.tile { padding: 10px 14px; min-width: 0; }
.tile dt { color: var(--soft); font-size: .82rem; }
.tile dd { margin: 0; overflow-wrap: anywhere; }
.tile .value { font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tile .detail { color: var(--soft); font-size: .82rem; }
.notes { background: var(--warn); border-left: 4px solid var(--warn-rule); border-radius: 4px; padding: 8px 14px 8px 32px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 370px), 1fr)); gap: 14px; }
.wide { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); gap: 14px; align-items: start; margin-bottom: 14px; }
figure { margin: 0; padding: 12px 12px 10px; min-width: 0; }
figcaption { font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; color: var(--soft); font-size: .84rem; min-height: 1.4em; margin-bottom: 4px; }
.legend span { display: inline-flex; align-items: center; gap: 6px; overflow-wrap: anywhere; }
.swatch { width: 18px; height: 12px; flex: none; }
.note { color: var(--soft); font-size: .8rem; margin: 4px 0 0; }
svg.chart { width: 100%; height: auto; display: block; touch-action: pan-y; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg text.number { fill: var(--text); }
svg text.value { fill: var(--text); font-weight: 600; }
svg text.inside { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
line.grid { stroke: var(--rule); }
line.axis { stroke: var(--axis); }
.h0 { --ink: var(--h0); } .h1 { --ink: var(--h1); } .h2 { --ink: var(--h2); } .h3 { --ink: var(--h3); }
.h4 { --ink: var(--h4); } .h5 { --ink: var(--h5); } .h6 { --ink: var(--h6); }
.t1 { opacity: .62; } .t2 { opacity: .36; }
.line { fill: none; stroke: var(--ink); stroke-width: 2; stroke-linejoin: round; }
.dashed { stroke-dasharray: 5 3; }
.single { fill: none; stroke: var(--ink); stroke-width: 1; opacity: .3; }
.band { fill: var(--ink); opacity: .2; }
.fill { fill: var(--ink); }
.hollow { fill: var(--card); stroke: var(--ink); stroke-width: 2; }
.whisker { stroke: var(--ink); stroke-width: 1.6; }
.cursor { stroke: var(--axis); visibility: hidden; }
.tip { position: fixed; z-index: 2; pointer-events: none; background: var(--card); border: 1px solid var(--axis); border-radius: 6px;
  padding: 5px 9px; font-size: .8rem; font-variant-numeric: tabular-nums; white-space: pre; visibility: hidden; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; text-align: right; white-space: nowrap; border-top: 1px solid var(--rule); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
.scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; background: var(--card); }
ul.objectives { color: var(--soft); max-width: 88ch; margin: 0 0 12px; padding-left: 20px; overflow-wrap: anywhere; }
details { margin: 12px 0; }
summary { cursor: pointer; font-weight: 600; }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px; overflow-x: auto; font-size: .82rem; }
.stories { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); gap: 12px 24px; }
.pictures { display: grid; grid-template-columns: repeat(3, minmax(0, 230px)); gap: 12px; }
.pictures figure { padding: 8px; }
.task { grid-column: 1 / -1; margin: 0; }
.words dt { font-weight: 600; overflow-wrap: anywhere; } .words dd { margin: 0 0 8px; max-width: 88ch; color: var(--soft); }
.pictures img { width: 100%; display: block; border-radius: 4px; image-rendering: pixelated; }
.pictures figcaption { font-size: .86rem; line-height: 1.3; margin-top: 6px; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); gap: 10px; }
.cards figure { padding: 8px; }
.cards img { width: 100%; display: block; border-radius: 4px; image-rendering: pixelated; }
.cards figcaption { font-size: .86rem; line-height: 1.3; margin-top: 6px; overflow-wrap: anywhere; }
.cards .note { overflow-wrap: anywhere; }
table.facts { font-size: .8rem; margin-top: 4px; }
table.facts td { padding: 1px 0; border-top: 0; }
table.facts td:first-child { color: var(--soft); white-space: normal; }
.missing { display: grid; place-items: center; aspect-ratio: 1; color: var(--soft); border: 1px dashed var(--axis); border-radius: 4px; font-size: .8rem; }
@media (min-width: 1060px) { .wide svg text { font-size: 10px; } }
@media (max-width: 600px) { .scroll th:first-child, .scroll td:first-child { white-space: normal; min-width: 6.5rem; overflow-wrap: break-word; } svg text { font-size: 14px; } svg text.name { font-size: 13px; } body { padding: 14px 10px 32px; } .pictures { gap: 6px; } .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; } }
)css";

// Under the pointer: the nearest value of each curve.
constexpr std::string_view kScript = R"js(
(() => {
  const tip = document.createElement('div');
  tip.className = 'tip';
  document.body.append(tip);
  for (const svg of document.querySelectorAll('svg.lines')) {
    let curves = null;
    const cursor = svg.querySelector('.cursor');
    const read = () => [...svg.querySelectorAll('polyline[data-x]')].map(line => ({
      name: line.parentNode.dataset.name,
      at: line.getAttribute('points').split(' ').map(point => parseFloat(point)),
      x: line.dataset.x.split(' '), y: line.dataset.y.split(' ')}));
    const hide = () => { tip.style.visibility = 'hidden'; cursor.style.visibility = 'hidden'; };
    const show = event => {
      curves = curves || read();
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      let lines = [], nearest = null;
      for (const curve of curves) {
        let best = 0;
        curve.at.forEach((x, i) => { if (Math.abs(x - place) < Math.abs(curve.at[best] - place)) best = i; });
        const distance = Math.abs(curve.at[best] - place);
        if (distance > 14) continue;
        if (!nearest || distance < nearest.distance) nearest = {distance, at: curve.at[best], x: curve.x[best]};
        lines.push(curve.name + '  ' + curve.y[best]);
      }
      if (!nearest) return hide();
      cursor.setAttribute('x1', nearest.at);
      cursor.setAttribute('x2', nearest.at);
      cursor.style.visibility = tip.style.visibility = 'visible';
      tip.textContent = 'step ' + nearest.x + '\n' + lines.join('\n');
      tip.style.left = Math.max(0, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4)) + 'px';
      tip.style.top = Math.max(0, event.clientY - tip.offsetHeight - 10) + 'px';
    };
    svg.addEventListener('pointermove', show);
    svg.addEventListener('pointerdown', show);
    svg.addEventListener('pointerleave', hide);
  }
})();
)js";

// SHA-256 of the two, by which the page's policy allows them and nothing else (`openssl dgst -sha256 -binary | base64`).
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
  return concat(kBeginning, "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src '",
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
