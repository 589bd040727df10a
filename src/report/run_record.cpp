#include "report/run_record.h"

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "report/config_text.h"
#include "report/html.h"
#include "report/objective_text.h"
#include "report/picture.h"

namespace apo::report {
namespace {

namespace fs = std::filesystem;

using results::HeavySample;
using results::RunLabels;

std::string number_or_dash(const std::optional<double>& value) { return value ? format_number(*value) : "–"; }

std::string who_acted(const std::string& source) {
  if (source == "expert") return "the expert acted";
  if (source == "intervention") return "the human acted";
  return "the policy acted";
}

// One group on the page.
struct Group {
  std::string title, lead, first;  ///< first: which come first where all weigh the same
  bool wanted = false;             ///< what the policy wanted and did not do
  std::vector<HeavySample> samples;
};

std::string card(const HeavySample& sample, const Group& group, bool show_weight, const fs::path& run_dir,
                 std::vector<std::string>& notes) {
  const std::string file = fs::path(sample.file).filename().string();
  const std::string who =
      group.wanted ? "the policy wanted this while the human acted" : who_acted(sample.source);
  const std::string alt = concat(file, ", ", sample.episode, ", timestep ", sample.timestep, ": ", who);
  std::string out = "<figure>";
  if (!sample.picture.empty()) out += embedded_picture(run_dir, sample.picture, alt, "picture", notes);
  out += concat("<figcaption>", escape(sample.episode), ", timestep ", format_count(sample.timestep),
                "</figcaption>");
  out += concat("<p class=\"note\">", escape(file), "; ", who);
  if (!sample.instruction.empty()) out += concat("; “", escape(sample.instruction), "”");
  out += concat("</p><table class=\"facts\"><tbody><tr><td>λ</td><td>", number_or_dash(sample.lambda),
                "</td></tr>");
  if (show_weight) out += concat("<tr><td>w</td><td>", number_or_dash(sample.weight), "</td></tr>");
  if (sample.reward) out += concat("<tr><td>reward</td><td>", number_or_dash(sample.reward), "</td></tr>");
  out +=
      concat("<tr><td>action error</td><td>", number_or_dash(sample.action_l1),
             "</td></tr><tr><td>in step</td><td>", format_count(sample.step), "</td></tr></tbody></table>");
  return out + "</figure>\n";
}

std::string draw(const Group& group, const SampleText& text, const fs::path& run_dir,
                 std::vector<std::string>& notes) {
  const std::vector<HeavySample>& samples = group.samples;
  if (samples.empty()) return "";
  const bool alike = std::all_of(samples.begin(), samples.end(), [&](const HeavySample& s) {
    return s.lambda && std::abs(*s.lambda - samples.front().lambda.value_or(0)) < 1e-9;
  });
  std::string out = concat("<h3>", escape(group.title), "</h3>\n<p class=\"lead\">", escape(group.lead));
  if (alike && samples.size() > 1) out += escape(concat(" ", text.tie, "; first come ", group.first, "."));
  out += "</p>\n<div class=\"cards\">\n";
  for (const HeavySample& sample : samples) out += card(sample, group, !text.weight.empty(), run_dir, notes);
  return out + "</div>\n";
}

int64_t count_in(const std::map<std::string, int64_t>& counts, const std::string& name) {
  const auto found = counts.find(name);
  return found == counts.end() ? 0 : found->second;
}

}  // namespace

std::string labels_sentence(const RunLabels& labels, std::string_view config) {
  int64_t batch = 0;
  for (const auto& [pool, count] : labels.batch) batch += count;
  const auto parts = [&](const std::map<std::string, int64_t>& counts) {
    std::string out;
    for (const auto& [pool, words] : {std::pair{"desirable", " desirable"},
                                      {"intervention", " human corrections"},
                                      {"undesirable", " undesirable"}})
      if (const int64_t n = count_in(counts, pool); n > 0 && (batch == 0 || count_in(labels.batch, pool) > 0))
        append_item(out, ", ", format_count(n), words);
    return out;
  };
  const std::string type = config_value(config, "objective.type");
  std::string out = concat("It learned from ", count_of(labels.episodes, "episode"), " in ",
                           count_of(labels.files, "file"), " with the steps ", parts(labels.pools));
  if (batch == 0) return out + ".";
  if (type == "tpo")
    return out + concat("; each batch draws whole corrections and the steps that led to them, on average ",
                        parts(labels.batch), ".");
  out += concat("; each batch of ", format_count(batch), " draws ", parts(labels.batch));
  if (const int64_t n = count_in(labels.batch, "intervention"); type == "dpo" && n > 0)
    out += concat(", and to ", n == 1 ? "this correction" : "each correction",
                  " what the policy wanted there, where that was recorded: up to ", format_count(batch + n),
                  " samples");
  return out + ".";
}

std::set<std::string> instructions(const fs::path& run_dir) {
  const auto heaviest = results::read_heaviest(run_dir);
  if (!heaviest) return {};
  std::set<std::string> found;
  for (const auto* group : {&heaviest->desirable, &heaviest->undesirable})
    for (const HeavySample& sample : *group) found.insert(sample.instruction);
  found.erase("");
  return found;
}

std::string heaviest_samples(const fs::path& run_dir, std::string_view config,
                             std::vector<std::string>& notes) {
  auto heaviest = results::read_heaviest(run_dir);
  if (!heaviest) return "";
  const SampleText text = sample_text(config);
  const Group desirable{"Desirable", text.desirable, "those that the policy predicted worst", false,
                        std::move(heaviest->desirable)};
  const Group undesirable{"Undesirable", text.undesirable, "those that the policy still predicted best",
                          text.wanted, std::move(heaviest->undesirable)};
  const std::string out = draw(desirable, text, run_dir, notes) + draw(undesirable, text, run_dir, notes);
  if (out.empty()) return "";
  const auto has_reward = [](const HeavySample& sample) { return sample.reward.has_value(); };
  const bool rewards = std::any_of(desirable.samples.begin(), desirable.samples.end(), has_reward) ||
                       std::any_of(undesirable.samples.begin(), undesirable.samples.end(), has_reward);
  return out + concat("<p class=\"note\">From step ", format_count(heaviest->from_step), " to ",
                      format_count(heaviest->to_step), ". λ: ", escape(text.lambda),
                      text.weight.empty() ? "" : concat("; w: ", escape(text.weight)),
                      rewards ? "; reward: log-probability gained over the reference (nats)" : "",
                      "; action error: mean |predicted − recorded| in normalized units; in step: of the "
                      "training. Frames: ",
                      escape(text.frames), ".</p>\n");
}

}  // namespace apo::report
