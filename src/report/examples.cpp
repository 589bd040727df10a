#include "report/examples.h"

#include "apo/base/error.h"
#include "report/html.h"
#include "report/picture.h"

namespace apo::report {
namespace {

namespace fs = std::filesystem;

// What the policy was told in the trial of an animation, and under which circumstances.
std::string task_line(const LoopSummary& summary, const Animation& animation) {
  std::string out = animation.instruction.empty() ? "" : concat("Task: “", animation.instruction, "”");
  std::string facts;
  if (const auto base = summary.trials.find(summary.rounds.front().round); base != summary.trials.end())
    if (const auto trial = base->second.find(animation.seed.value_or(-1)); trial != base->second.end())
      for (const auto& [fact, value] : trial->second.facts) append_item(facts, ", ", fact, " ", value);
  if (!facts.empty()) append_item(out, "; ", facts);
  return out.empty() ? "" : concat("<p class=\"task\">", escape(out), "</p>\n");
}

std::string of_trials(int64_t count, int64_t total) {
  return concat(format_count(count), " of ", count_of(total, "trial"));
}

// How many trials there are of a kind.
std::string count_sentence(const LoopSummary& summary, const std::string& kind) {
  const std::optional<Gain> gain = summary.gain();
  const std::optional<EvaluationSummary>& evaluation = summary.current().evaluation;
  if (kind == "solved" && gain && gain->pairs)
    return concat("The policy in use solves ", of_trials(gain->pairs->only_after, gain->pairs->total()),
                  " that the base failed.");
  if (kind == "failed" && gain && gain->pairs) {
    const Pairs& pairs = *gain->pairs;
    return concat("The policy in use fails ", of_trials(pairs.neither + pairs.only_before, pairs.total()),
                  "; the base solved ", format_count(pairs.only_before), " of these.");
  }
  if (kind == "failed" && evaluation && evaluation->success)
    return concat(
        "The policy in use fails ",
        of_trials(evaluation->success->total - evaluation->success->count, evaluation->success->total), ".");
  return "";
}

std::string stories(const LoopSummary& summary, const std::vector<Animation>& shown, const fs::path& loop_dir,
                    std::vector<std::string>& notes) {
  std::string out = "<div class=\"stories\">\n";
  for (size_t i = 0; i < shown.size(); ++i) {
    if (i == 0 || shown[i].seed != shown[i - 1].seed)
      out += concat("<div class=\"pictures\">\n", task_line(summary, shown[i]));
    out += concat("<figure>", embedded_picture(loop_dir, shown[i].path, shown[i].title, "animation", notes),
                  "<figcaption>", escape(shown[i].title), "</figcaption><p class=\"note\">",
                  escape(shown[i].caption), "</p></figure>\n");
    if (i + 1 == shown.size() || shown[i + 1].seed != shown[i].seed) out += "</div>\n";
  }
  return out + "</div>\n";
}

}  // namespace

std::string examples(const LoopSummary& summary, const fs::path& loop_dir, std::vector<std::string>& notes) {
  std::string out;
  for (const auto& [kind, title] :
       {std::pair{"", ""}, {"solved", "What it learned"}, {"failed", "What still fails"}}) {
    std::vector<Animation> shown;
    for (const Animation& animation : summary.animations)
      if (animation.kind == kind) shown.push_back(animation);
    if (shown.empty()) continue;
    const std::string count = count_sentence(summary, kind);
    const std::string& chosen = shown.front().chosen;
    if (*title != '\0') out += concat("<h3>", title, "</h3>\n");
    if (!count.empty() || !chosen.empty())
      out += concat("<p class=\"lead\">", escape(count),
                    chosen.empty() ? "" : concat(count.empty() ? "" : " ", "Shown: ", escape(chosen), "."),
                    "</p>\n");
    out += stories(summary, shown, loop_dir, notes);
  }
  return out;
}

}  // namespace apo::report
