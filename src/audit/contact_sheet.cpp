#include "apo/audit/contact_sheet.h"

#include <torch/types.h>

#include <algorithm>
#include <set>

#include "apo/base/error.h"
#include "apo/pictures/transforms.h"
#include "audit/scan.h"
#include "pictures/canvas.h"

namespace apo::audit {
namespace {

using pictures::Canvas;
using pictures::Color;
using pictures::source_color;

constexpr int64_t kBorder = 4, kStrip = 11, kGap = 6, kTitle = 28, kMargin = 10;
constexpr int64_t kLargestSide = 16383;  // of a WebP picture
constexpr size_t kMostEpisodes = 256;
constexpr Color kBackground{24, 24, 27}, kText{235, 235, 240}, kDim{160, 160, 170}, kInk{12, 12, 14};

Color color_of(StepLabel label) {
  switch (label) {
    case StepLabel::desirable:
      return {120, 200, 130};
    case StepLabel::intervention:
      return {255, 196, 90};
    case StepLabel::undesirable:
      return {235, 85, 85};
    case StepLabel::skipped:
      return {120, 120, 128};
  }
  return kDim;
}

struct Frame {
  int64_t timestep = 0;
  at::Tensor image;  // resized
  ActionSource source = ActionSource::policy;
  StepLabel label = StepLabel::skipped;
  std::string reason;
};

struct Block {
  std::string title, subtitle;
  std::vector<Frame> frames;
};

// Evenly spaced timesteps with every take-over among them, as far as `most` goes.
std::vector<int64_t> chosen_steps(const std::vector<LabelledStep>& steps, int64_t most) {
  const auto n = static_cast<int64_t>(steps.size());
  std::set<int64_t> chosen, fixed;
  for (int64_t t = 0; t < n && static_cast<int64_t>(fixed.size()) < most; ++t)
    if (steps[static_cast<size_t>(t)].take_over) fixed.insert(t);
  const int64_t even = std::min(n, most);
  for (int64_t i = 0; i < even; ++i) chosen.insert(even == 1 ? 0 : i * (n - 1) / (even - 1));
  for (const int64_t t : fixed) {
    if (chosen.contains(t)) continue;
    // its nearest neighbour that is no take-over itself makes room
    int64_t nearest = -1;
    for (const int64_t c : chosen)
      if (!fixed.contains(c) && (nearest < 0 || std::abs(c - t) < std::abs(nearest - t))) nearest = c;
    if (nearest >= 0) chosen.erase(nearest);
    chosen.insert(t);
  }
  return {chosen.begin(), chosen.end()};
}

std::string camera_of(const ScannedEpisode& e, const std::string& wanted) {
  std::string names;
  for (const auto& [name, size] : e.record.cameras) append_item(names, ", ", name);
  const std::string where = concat(e.in.file.path().string(), ": ", e.record.name);
  APO_CHECK(DataError, !names.empty(), where, ": expected a camera, found none");
  if (wanted.empty()) return e.record.cameras.begin()->first;
  APO_CHECK(DataError, e.record.cameras.contains(wanted), where, ": no camera '", wanted, "' (valid: ", names,
            ")");
  return wanted;
}

Block block_of(const ScannedEpisode& e, const ContactSheetOptions& sheet) {
  const EpisodeRecord& record = e.record;
  const std::string camera = camera_of(e, sheet.camera);
  const std::string ending = !record.outcome.empty() ? record.outcome
                             : !record.success       ? "outcome unknown"
                             : *record.success       ? "success"
                                                     : "failure";
  Block block;
  block.title = concat(e.in.file.path().filename().string(), "  ", record.name);
  block.subtitle =
      concat("'", record.instruction, "'  ", record.num_steps(), " steps, ", ending, ", camera ", camera);
  for (const int64_t t : chosen_steps(e.steps, sheet.frames)) {
    const at::Tensor image = e.in.file.observation(e.index, t, {camera}).images.at(camera);
    const int64_t width = std::clamp<int64_t>(sheet.size * image.size(1) / image.size(0), 1, 4 * sheet.size);
    const auto i = static_cast<size_t>(t);
    block.frames.push_back({t, pictures::resize(image, sheet.size, width), record.sources[i],
                            e.steps[i].label, e.steps[i].reason});
  }
  return block;
}

// "K = 10 (the defaults)"
std::string rule_text(const DataOptions& options, const ContactSheetOptions& sheet) {
  return concat(options.labels.window == LabelWindow::onset ? "onset, else " : "",
                "K = ", options.labels.steps_before_intervention,
                options.compatibility == DataCompatibility::released_code ? ", released code" : "", "  (",
                sheet.config.empty() ? "the defaults" : sheet.config, ")");
}

void draw_legend(Canvas& canvas, const std::string& rule) {
  int64_t x = kMargin;
  const auto item = [&](Color color, const std::string& text, bool border) {
    canvas.fill(kMargin, x, 14, 14, color);
    if (border) canvas.fill(kMargin + 4, x + 4, 6, 6, kBackground);
    canvas.write(kMargin + 4, x + 20, text, kText);
    x += 20 + Canvas::text_width(text) + 14;
  };
  item(source_color(ActionSource::expert), "expert", true);
  item(source_color(ActionSource::policy), "policy", true);
  item(source_color(ActionSource::intervention), "human", true);
  x += 20;
  item(color_of(StepLabel::desirable), "desirable", false);
  item(color_of(StepLabel::intervention), "intervention", false);
  item(color_of(StepLabel::undesirable), "undesirable", false);
  item(color_of(StepLabel::skipped), "skipped", false);
  canvas.write(kMargin + 16, kMargin, rule, kDim);
}

constexpr int64_t kLegendWidth = 640, kLegendHeight = 26;

void draw_frame(Canvas& canvas, int64_t y, int64_t x, const Frame& frame) {
  const int64_t height = frame.image.size(0), width = frame.image.size(1);
  canvas.fill(y, x, height + 2 * kBorder, width + 2 * kBorder, source_color(frame.source));
  canvas.paste(y + kBorder, x + kBorder, frame.image);
  const int64_t strip = y + height + 2 * kBorder + 1;
  canvas.fill(strip, x, kStrip, width + 2 * kBorder, color_of(frame.label));
  // a skipped step says why, as far as there is room
  std::string text =
      concat(frame.timestep, ' ',
             frame.label == StepLabel::skipped ? std::string_view(frame.reason) : to_string(frame.label));
  while (!text.empty() && Canvas::text_width(text) > width + 2 * kBorder - 4) text.pop_back();
  canvas.write(strip + 2, x + 3, text, kInk);
}

int64_t rows_of(const Block& block, int64_t columns) {
  return (static_cast<int64_t>(block.frames.size()) + columns - 1) / columns;
}

void expect_options(const DataOptions& options, const ContactSheetOptions& sheet) {
  APO_CHECK(ConfigError, !options.expert.empty() || !options.interactions.empty(),
            "no data to show: give files, or a config with data.expert or data.interactions");
  APO_CHECK(ConfigError, sheet.episodes >= 1 && sheet.frames >= 1 && sheet.columns >= 1,
            "contact sheet: expected at least one episode, frame and column, found ", sheet.episodes, ", ",
            sheet.frames, " and ", sheet.columns);
  APO_CHECK(ConfigError, sheet.size >= 16 && sheet.size <= 1024,
            "contact sheet: expected a size of 16 to 1024 pixels, found ", sheet.size);
}

}  // namespace

at::Tensor contact_sheet(const DataOptions& options, const ContactSheetOptions& sheet) {
  expect_options(options, sheet);
  DataOptions limited = options;
  if (sheet.episode.empty())
    for (auto* sources : {&limited.expert, &limited.interactions})
      for (SourceOptions& source : *sources)
        source.limit = source.limit > 0 ? std::min(source.limit, sheet.episodes) : sheet.episodes;
  std::vector<Block> blocks;
  std::string names;
  int64_t num_names = 0;
  scan(limited, {.file = [](const ScannedFile&) {},
                 .episode =
                     [&](const ScannedEpisode& e) {
                       if (num_names++ < 8) append_item(names, ", ", e.record.name);
                       if (sheet.episode.empty() || e.record.name == sheet.episode) {
                         if (blocks.size() < kMostEpisodes) blocks.push_back(block_of(e, sheet));
                       }
                     }});
  APO_CHECK(DataError, num_names > 0, "data: expected an episode to show, found none in the files");
  APO_CHECK(DataError, !blocks.empty(), "no episode '", sheet.episode, "' (valid: ", names,
            num_names > 8 ? ", ..." : "", ")");
  int64_t cell = 0, height = kMargin + kLegendHeight + kMargin;
  for (const Block& block : blocks) {
    for (const Frame& frame : block.frames) cell = std::max(cell, frame.image.size(1) + 2 * kBorder);
    height +=
        kTitle + rows_of(block, sheet.columns) * (sheet.size + 2 * kBorder + 1 + kStrip + kGap) + kMargin;
  }
  int64_t columns = 1;
  for (const Block& block : blocks)
    columns = std::max(columns, std::min(sheet.columns, static_cast<int64_t>(block.frames.size())));
  const int64_t width = std::max(kLegendWidth, 2 * kMargin + columns * (cell + kGap) - kGap);
  APO_CHECK(ConfigError, width <= kLargestSide && height <= kLargestSide, "contact sheet: ", width, "x",
            height, " pixels are more than a picture can have (", kLargestSide,
            "): show fewer episodes, frames or columns, or smaller ones");
  Canvas canvas(height, width, kBackground);
  draw_legend(canvas, rule_text(options, sheet));
  int64_t y = kMargin + kLegendHeight + kMargin;
  for (const Block& block : blocks) {
    canvas.write(y, kMargin, block.title, kText);
    canvas.write(y + 11, kMargin, block.subtitle, kDim);
    y += kTitle;
    for (size_t i = 0; i < block.frames.size(); ++i) {
      const auto place = static_cast<int64_t>(i);
      draw_frame(canvas, y + place / sheet.columns * (sheet.size + 2 * kBorder + 1 + kStrip + kGap),
                 kMargin + place % sheet.columns * (cell + kGap), block.frames[i]);
    }
    y += rows_of(block, sheet.columns) * (sheet.size + 2 * kBorder + 1 + kStrip + kGap) + kMargin;
  }
  return canvas.image();
}

}  // namespace apo::audit
