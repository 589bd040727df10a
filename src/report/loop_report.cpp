#include <algorithm>
#include <cmath>
#include <set>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/report/report.h"
#include "report/config_text.h"
#include "report/examples.h"
#include "report/html.h"
#include "report/intervals.h"
#include "report/label_names.h"
#include "report/loop_charts.h"
#include "report/loop_summary.h"
#include "report/methods.h"
#include "report/metrics.h"
#include "report/origin.h"
#include "report/page.h"
#include "report/run_record.h"
#include "report/training_charts.h"
#include "report/words.h"
#include "results/file_names.h"

namespace apo::report {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDeployed =
    "A robot policy was deployed while a person watched, who took over shortly before it failed. ";
constexpr const char* kWhatALoopIs =
    "What was recorded taught the policy what to do and what not to do. This page shows how well it "
    "did before and after.";
constexpr const char* kWhatAComparisonIs =
    "Several methods then learned from what was recorded, each a policy of its own. This page shows "
    "how well they do, side by side.";

std::string introduction(const LoopSummary& summary) {
  const bool scripted = config_value(summary.config, "deploy.intervention.type") == "scripted";
  return concat(kDeployed, summary.methods.empty() ? kWhatALoopIs : kWhatAComparisonIs,
                scripted ? " The person is played by a script here." : "");
}

// The curves of one training, and folded below them all the rest of it.
std::string training_charts(const fs::path& dir, const Metrics& metrics, const std::string& name,
                            std::vector<std::string>& notes) {
  std::error_code ignored;
  const fs::path config_file = dir / results::kConfigFile;
  const std::string config = fs::is_regular_file(config_file, ignored) ? read_file(config_file) : "";
  std::string more = grid(remaining_charts(metrics));
  if (const std::optional<results::RunLabels> labels = results::read_labels(dir))
    more += concat("<h3>What it learned from</h3>\n<p class=\"lead\">",
                   escape(labels_sentence(*labels, config)), "</p>\n", grid(label_bars(labels->labels)));
  const std::string heaviest = heaviest_samples(dir, config, notes);
  if (!heaviest.empty()) more += "<h3>What weighed most</h3>\n" + heaviest;
  return grid(brief_learning_charts(metrics)) +
         folded(concat("All curves of ", name, ", and what weighed most"), more);
}

// Heading and curves of the training in loop_dir/`training`; a note where it has none.
std::string training_section(const fs::path& loop_dir, const std::string& training, const std::string& name,
                             const std::string& objective, const std::optional<double>& seconds,
                             std::vector<std::string>& notes) {
  const fs::path dir = loop_dir / training;
  std::error_code ignored;
  if (!fs::exists(dir / results::kMetricsFile, ignored)) {
    notes.push_back(
        concat("The training curves of ", name, " are missing: there is no ", training, "/metrics.jsonl."));
    return "";
  }
  const Metrics metrics = read_metrics(dir / results::kMetricsFile);
  for (const std::string& note : metrics.notes) notes.push_back(concat("Training of ", name, ": ", note));
  write_run_report(dir);
  const std::string what = concat(name, objective.empty() ? "" : ", ", objective, ", ",
                                  count_of(static_cast<int64_t>(metrics.steps.size()), "step"),
                                  seconds ? concat(", ", format_duration(*seconds)) : "");
  return concat("<h3>", escape(what), " · ", link_to(training + "/report.html", "its own page"), "</h3>\n",
                training_charts(dir, metrics, name, notes));
}

std::string training_sections(const LoopSummary& summary, const fs::path& loop_dir,
                              std::vector<std::string>& notes) {
  std::string out;
  for (const Round& round : summary.rounds)
    if (!round.training.empty())
      out += training_section(loop_dir, round.training, round.name(), round.objective, round.train_seconds,
                              notes);
  for (const Method& method : summary.methods)
    if (!method.training.empty())
      out += training_section(
          loop_dir, method.training,
          concat(method.name, summary.methods.back().round > 1 ? concat(", round ", method.round) : ""),
          method.objective, method.train_seconds, notes);
  return out;
}

// What the policy is told, as far as animations and heaviest samples say it.
std::string task_sentence(const LoopSummary& summary, const fs::path& loop_dir) {
  std::set<std::string> found;
  for (const Animation& animation : summary.animations) found.insert(animation.instruction);
  for (const Round& round : summary.rounds)
    if (!round.training.empty()) found.merge(instructions(loop_dir / round.training));
  for (const Method& method : summary.methods)
    if (!method.training.empty()) found.merge(instructions(loop_dir / method.training));
  found.erase("");
  constexpr size_t kMost = 4;
  std::string list;
  size_t count = 0;
  for (const std::string& instruction : found)
    if (count++ < kMost)
      list += concat(list.empty() ? "" : count == found.size() ? " or " : ", ", "“", instruction, "”");
  if (found.empty()) return "";
  return concat("The policy sees pictures, is told what to do, and moves the robot: ", list,
                found.size() > kMost ? " and other tasks" : "",
                summary.environment.empty() ? "" : concat(", in the environment ", summary.environment), ".");
}

std::string share_cell(const std::optional<Rate>& share) {
  if (!share) return "–";
  return concat(format_count(share->count), "/", format_count(share->total), " = ",
                format_percent(share->rate, 1), " [", format_fixed(100 * share->low, 1), ", ",
                format_fixed(100 * share->high, 1), "]");
}

template <class Format>
void add_row(const std::vector<Round>& rounds, const std::string& name, const Format& format, Table& table) {
  std::vector<std::string> row = {name};
  bool any = false;
  for (const Round& round : rounds) {
    row.push_back(format(round));
    any = any || (row.back() != "–" && !row.back().empty());
  }
  if (any) table.rows.push_back(std::move(row));
}

// A row for each name that occurs in any round.
template <class Counts>
void add_counts(const std::vector<Round>& rounds, const std::string& prefix, const Counts& counts_of,
                Table& table) {
  std::set<std::string> names;
  for (const Round& round : rounds)
    for (const auto& [name, count] : counts_of(round)) names.insert(name);
  for (const std::string& name : names)
    add_row(
        rounds, prefix + name,
        [&](const Round& round) {
          const std::map<std::string, int64_t> counts = counts_of(round);
          const auto found = counts.find(name);
          return found == counts.end() ? std::string("–") : format_count(found->second);
        },
        table);
}

std::string numbers_table(const LoopSummary& summary) {
  const std::vector<Round>& rounds = summary.rounds;
  const EvaluationSummary no_evaluation;
  const auto evaluation = [&](const Round& r) -> const EvaluationSummary& {
    return r.evaluation ? *r.evaluation : no_evaluation;
  };
  const auto of_deployment = [](const Round& r, int64_t CollectionSummary::*count) {
    return r.deployment ? format_count((*r.deployment).*count) : std::string("–");
  };
  const auto counts_of_deployment = [](const Round& r, auto CollectionSummary::*counts) {
    return r.deployment ? (*r.deployment).*counts : std::map<std::string, int64_t>();
  };
  const auto optional_time = [](const std::optional<double>& s) {
    return s ? format_duration(*s) : std::string("–");
  };
  Table table{{""}, {}};
  for (const Round& round : rounds) table.head.push_back(round.name());
  add_row(
      rounds, "objective", [](const Round& r) { return r.objective; }, table);
  add_row(
      rounds, "promoted", [](const Round& r) { return std::string(r.promoted ? "yes" : "no"); }, table);
  add_row(
      rounds, "success against the policy in use",
      [](const Round& r) {
        if (!r.promotion) return std::string("–");
        const PairedTest& test = r.promotion->test;
        return concat(test.difference < 0 ? "−" : "+", format_fixed(100 * std::abs(test.difference), 1),
                      " points (", test.only_first, " won, ", test.only_second, " lost of ", test.pairs,
                      "), ", p_text(test.p));
      },
      table);
  add_row(
      rounds, "success", [&](const Round& r) { return share_cell(evaluation(r).success); }, table);
  add_row(
      rounds, "unaided success", [&](const Round& r) { return share_cell(evaluation(r).unaided); }, table);
  add_counts(
      rounds, "trials: ", [&](const Round& r) { return evaluation(r).outcomes; }, table);
  std::set<std::string> facts;
  for (const Round& round : rounds)
    for (const auto& [fact, share] : evaluation(round).success_by_fact) facts.insert(fact);
  for (const std::string& fact : facts)
    add_row(
        rounds, "success, " + fact,
        [&](const Round& r) {
          const auto found = evaluation(r).success_by_fact.find(fact);
          if (found == evaluation(r).success_by_fact.end()) return std::string("–");
          const Rate& i = found->second;
          return concat(format_percent(i.rate, 1), " [", format_fixed(100 * i.low, 1), ", ",
                        format_fixed(100 * i.high, 1), "]");
        },
        table);
  add_row(
      rounds, "episodes deployed",
      [&](const Round& r) { return of_deployment(r, &CollectionSummary::episodes); }, table);
  add_row(
      rounds, "take-overs", [&](const Round& r) { return of_deployment(r, &CollectionSummary::take_overs); },
      table);
  add_counts(
      rounds, "take-overs: ",
      [&](const Round& r) { return counts_of_deployment(r, &CollectionSummary::take_overs_by_reason); },
      table);
  add_row(
      rounds, "successes alone", [&](const Round& r) { return of_deployment(r, &CollectionSummary::alone); },
      table);
  add_row(
      rounds, "episodes lost", [&](const Round& r) { return of_deployment(r, &CollectionSummary::lost); },
      table);
  add_counts(
      rounds,
      "steps recorded: ", [&](const Round& r) { return counts_of_deployment(r, &CollectionSummary::steps); },
      table);
  add_counts(
      rounds, "labels, ", [](const Round& r) { return r.labels; }, table);
  add_row(
      rounds, "training time", [&](const Round& r) { return optional_time(r.train_seconds); }, table);
  add_row(
      rounds, "evaluation time", [&](const Round& r) { return optional_time(evaluation(r).seconds); }, table);
  add_row(
      rounds, "policy", [](const Round& r) { return r.policy; }, table);
  return draw(table);
}

std::vector<Tile> loop_tiles(const LoopSummary& summary) {
  std::vector<Tile> tiles;
  const auto add = [&](const std::string& name, const std::optional<EvaluationSummary>& evaluation) {
    if (!evaluation || !evaluation->success) return;
    const Rate& success = *evaluation->success;
    tiles.push_back({name, format_number(100 * success.rate) + "%",
                     concat("of ", format_count(success.total), " trials [", format_percent(success.low),
                            ", ", format_percent(success.high), "]")});
  };
  add(concat("success, ", summary.rounds.front().name()), summary.rounds.front().evaluation);
  const Round& last = summary.current();
  if (&last != &summary.rounds.front()) {
    add(concat("success, ", last.name()), last.evaluation);
    if (const std::optional<Gain> gain = summary.gain())
      tiles.push_back(
          {"difference",
           concat(gain->points.value >= 0 ? "+" : "", format_fixed(100 * gain->points.value, 0), " points"),
           concat(gain->pairs ? "paired " : "", "95% interval [", format_fixed(100 * gain->points.low, 0),
                  ", ", format_fixed(100 * gain->points.high, 0), "]",
                  gain->pairs ? concat(", ", p_text(*gain->p())) : "")});
  }
  if (const Method* best = summary.best_method()) {
    const Rate& success = *best->evaluation->success;
    tiles.push_back({concat("success, ", best->name), format_number(100 * success.rate) + "%",
                     concat("of ", format_count(success.total), " trials [", format_percent(success.low),
                            ", ", format_percent(success.high), "]")});
  }
  if (summary.seconds) tiles.push_back({"time", format_duration(*summary.seconds), "the whole loop"});
  return tiles;
}

// Of everything that worked on the loop, as config.yaml tells it; of what wrote the summary, where that is
// not there.
std::vector<Provenance> origins_of(const fs::path& loop_dir, const LoopSummary& summary) {
  std::error_code ignored;
  std::vector<Provenance> origins;
  if (fs::is_regular_file(loop_dir / results::kConfigFile, ignored))
    origins = read_provenance(read_file(loop_dir / results::kConfigFile));
  if (origins.empty() && summary.provenance) origins.push_back(*summary.provenance);
  if (origins.empty() && !summary.command.empty()) {
    origins.emplace_back();
    origins.back().command = summary.command;
  }
  return origins;
}

// How the difference above was computed.
std::string intervals_note(const LoopSummary& summary) {
  const std::optional<Gain> gain = summary.gain();
  if (!gain) return "";
  return gain->pairs
             ? " The difference to the base: Newcombe's interval for paired proportions (1998, method 10), "
               "and McNemar's exact test, both over the trials on the same seeds."
             : " The difference to the base: Newcombe's interval, which takes the two sets of trials as "
               "independent, since their single trials are not known here.";
}

// By which rule rounds were promoted, where the file says so.
std::string promotion_note(const LoopSummary& summary) {
  for (const Round& round : summary.rounds)
    if (round.promotion)
      return concat(
          " A refined policy is promoted if it succeeds in at least as many of the same trials as "
          "the policy in use",
          round.promotion->tolerance > 0
              ? concat(" less ", format_number(100 * round.promotion->tolerance), " points")
              : "",
          ".");
  return "";
}

}  // namespace

void write_loop_report(const fs::path& loop_dir) {
  const LoopSummary summary = read_summary(loop_dir / results::kSummaryFile);
  Page page;
  page.title = concat(summary.methods.empty() ? "Refinement loop " : "Comparison ", directory_name(loop_dir));
  page.story = story(summary);
  page.story.insert(page.story.begin(), introduction(summary));
  if (const std::string task = task_sentence(summary, loop_dir); !task.empty())
    page.story.insert(page.story.begin() + 1, task);
  if (!summary.environment.empty()) page.subtitle = concat("environment ", summary.environment);
  if (summary.seed) append_item(page.subtitle, " · ", "seed ", *summary.seed);
  page.tiles = loop_tiles(summary);
  page.notes = summary.notes;

  page.body = section(
      "What it looks like", examples(summary, loop_dir, page.notes),
      "The pictures of a seed begin in one and the same state. Where a person watches, the frame is blue "
      "while the policy acts and orange while the person does.");
  page.body += section("Methods side by side", methods_panel(summary), methods_lead(summary));
  // a comparison has no rounds of its own beside the base
  if (summary.methods.empty())
    page.body += section("Round by round",
                         grid(success_chart(summary) + corrected_chart(summary) + take_over_chart(summary) +
                              outcome_chart(summary) + fact_charts(summary) + label_chart(summary)),
                         "Base: the policy that was trained on demonstrations alone. Each round "
                         "deploys the policy, learns from the take-overs, and tries the result in "
                         "trials that nobody helps with.");
  page.body += section(
      "Training", training_sections(summary, loop_dir, page.notes),
      "How each policy learned: one point is one update. Blue: desirable actions; orange: undesirable ones.");
  std::string numbers = numbers_table(summary);
  numbers += concat("<p class=\"note\">In brackets: 95% intervals (Wilson), in per cent.",
                    intervals_note(summary), promotion_note(summary), "</p>\n");
  page.body += section("All numbers", folded("Table of all rounds", numbers));
  page.body = words_on(page, summary) + page.body;
  page.body += section("Where it comes from",
                       origin_block(origins_of(loop_dir, summary)) + config_block("config", summary.config));
  write_page(loop_dir, page);
}

}  // namespace apo::report
