#include <algorithm>
#include <cmath>
#include <optional>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/report/report.h"
#include "report/config_text.h"
#include "report/html.h"
#include "report/label_names.h"
#include "report/metrics.h"
#include "report/objective_text.h"
#include "report/origin.h"
#include "report/page.h"
#include "report/run_record.h"
#include "report/training_charts.h"
#include "results/file_names.h"

namespace apo::report {
namespace {

namespace fs = std::filesystem;

// How many of the last values a final number averages, in words.
std::string last_values(size_t window) {
  return window == 1 ? "last step"
                     : concat("mean of last ", format_count(static_cast<int64_t>(window)), " steps");
}

void add_final(const Metrics& metrics, const std::string& field, const std::string& name,
               std::vector<Tile>& tiles) {
  const Series& series = metrics[field];
  const size_t window = smoothing_window(series.size());
  const double value = mean_at_end(series, window);
  if (std::isfinite(value)) tiles.push_back({name, format_number(value), last_values(window)});
}

std::vector<Tile> run_tiles(const Metrics& metrics, const std::string& config) {
  std::vector<Tile> tiles;
  const std::string objective = config_value(config, "objective.type");
  if (!objective.empty()) tiles.push_back({"objective", objective, "objective.type"});
  std::string epochs;
  const double epoch = mean_at_end(metrics["epoch"], 1);
  if (std::isfinite(epoch)) epochs = concat("epoch ", format_number(epoch));
  tiles.push_back({"steps",
                   format_count(metrics.steps.empty() ? 0 : static_cast<int64_t>(metrics.steps.size())),
                   epochs});
  if (metrics["step_seconds"].size() > 0)
    tiles.push_back({"time in steps", format_duration(metrics.sum("step_seconds")), "sum of step_seconds"});
  add_final(metrics, "loss", "loss", tiles);
  add_final(metrics, "reward_desirable", "reward, desirable (nats)", tiles);
  add_final(metrics, "reward_undesirable", "reward, undesirable (nats)", tiles);
  add_final(metrics, "action_l1_desirable", "action error, desirable", tiles);
  for (const auto& [field, series] : metrics.fields)
    if (field.starts_with("eval/") && field.find("success") != std::string::npos) {
      const double value = mean_at_end(series, 1);
      if (std::isfinite(value)) tiles.push_back({field, format_number(value), "last evaluation"});
    }
  return tiles;
}

std::vector<std::string> run_story(const Metrics& metrics, const std::string& config,
                                   const std::optional<results::RunLabels>& labels) {
  std::vector<std::string> story;
  const std::string objective = objective_sentence(config_value(config, "objective.type"));
  if (!objective.empty()) story.push_back(objective);
  if (labels) story.push_back(labels_sentence(*labels, config));
  const Series& desirable = metrics["action_l1_desirable"];
  const size_t window = smoothing_window(desirable.size());
  const double before = mean_at_start(desirable, window), after = mean_at_end(desirable, window);
  if (desirable.size() > 1 && std::isfinite(before) && std::isfinite(after))
    story.push_back(concat("In ", count_of(static_cast<int64_t>(metrics.steps.size()), "step"),
                           " its error on desirable actions went from ", format_number(before), " to ",
                           format_number(after), " (mean |predicted − recorded|, normalized)."));
  return story;
}

Table throughput_table(const Metrics& metrics) {
  Table table{{"", "median", "10th percentile", "90th percentile"}, {}};
  const auto add = [&](const char* name, const std::string& field, std::string (*format)(double)) {
    const std::vector<double>& values = metrics[field].y;
    if (!std::isfinite(quantile(values, 0.5))) return;
    table.rows.push_back(
        {name, format(quantile(values, 0.5)), format(quantile(values, 0.1)), format(quantile(values, 0.9))});
  };
  const auto number = [](double value) { return format_number(value); };
  add("samples per second", "samples_per_second", number);
  add("time of a step", "step_seconds", format_duration);
  add("of it waiting for data", "data_seconds", format_duration);
  add("memory", "memory_bytes", format_bytes);
  return table;
}

std::string throughput_sums(const Metrics& metrics) {
  const double seconds = metrics.sum("step_seconds"), data = metrics.sum("data_seconds");
  const double samples = metrics.sum("num_desirable") + metrics.sum("num_undesirable");
  std::string out;
  if (samples > 0) out += concat(format_count(std::llround(std::min(samples, 9e18))), " samples in all");
  if (seconds > 0 && metrics["data_seconds"].size() > 0)
    append_item(out, "; ", format_percent(data / seconds, 1),
                " of the time in steps went by waiting for data");
  return out.empty() ? "" : concat("<p class=\"note\">", escape(out), ".</p>\n");
}

std::string numbers_table(const Metrics& metrics) {
  if (metrics.fields.empty()) return "";
  Table table{{"field", "values", "first", "last", "least", "largest"}, {}};
  for (const auto& [field, series] : metrics.fields) {
    const size_t window = smoothing_window(series.size());
    table.rows.push_back({field, format_count(static_cast<int64_t>(series.size())),
                          format_number(mean_at_start(series, window), 4),
                          format_number(mean_at_end(series, window), 4),
                          format_number(quantile(series.y, 0), 4), format_number(quantile(series.y, 1), 4)});
  }
  return draw(table) +
         "<p class=\"note\">First and last are means over as many steps as the charts' smoothing: about a "
         "fortieth of "
         "the run, one step in runs below 60 steps.</p>\n";
}

}  // namespace

void write_run_report(const fs::path& run_dir) {
  const fs::path metrics_file = run_dir / results::kMetricsFile, config_file = run_dir / results::kConfigFile;
  const Metrics metrics = read_metrics(metrics_file);
  std::error_code ignored;
  const bool has_config = fs::is_regular_file(config_file, ignored);
  const std::string config = has_config ? read_file(config_file) : "";

  Page page;
  // the runs of a loop are all called "training": the round's name tells them apart
  std::string name = directory_name(run_dir);
  if (name == "training") name = directory_name(fs::absolute(run_dir / "..")) + "/training";
  page.title = concat("Training run ", name);
  page.subtitle = config_digest(config);
  page.notes = metrics.notes;
  if (!has_config)
    page.notes.push_back("config.yaml is missing: the objective and the options are not known.");
  if (metrics.steps.empty())
    page.notes.push_back("metrics.jsonl has no steps yet: there is nothing to draw.");
  page.tiles = run_tiles(metrics, config);

  const std::optional<results::RunLabels> labels = results::read_labels(run_dir);
  if (!labels)
    page.notes.push_back("labels.json is missing: which recorded steps it learned from is not known.");
  page.story = run_story(metrics, config, labels);
  page.body =
      section("Learning", grid(learning_charts(metrics)),
              "One point is one update of the policy. Blue: desirable actions; orange: undesirable ones.");
  if (labels)
    page.body += section(
        "What it learned from", grid(label_bars(labels->labels)),
        "Every recorded step has a label; undesirable are the policy's own last steps before a person took "
        "over.");
  page.body += section("What weighed most", heaviest_samples(run_dir, config, page.notes),
                       "The recorded steps that counted most in the loss (the largest weight λ), each once.");
  page.body += section("Evaluation", grid(evaluation_charts(metrics)),
                       "Trials in the environment while it was trained.");
  page.body += section("Running", grid(running_charts(metrics)), "Whether the training itself was in order.");
  page.body += section("Other fields", grid(other_charts(metrics)));
  const std::string absent = absent_fields(metrics);
  if (!absent.empty() && !metrics.steps.empty())
    page.body +=
        concat("<p class=\"note\">Without values in this run, and not drawn: ", escape(absent), ".</p>\n");
  const Table throughput = throughput_table(metrics);
  if (!throughput.rows.empty())
    page.body += section("Throughput", draw(throughput) + throughput_sums(metrics));
  page.body += section("All numbers", numbers_table(metrics));
  page.body += section("Where it comes from",
                       origin_block(read_provenance(config)) + config_block(results::kConfigFile, config));
  write_page(run_dir, page);
}

void write_report(const fs::path& dir) {
  std::error_code ignored;
  const bool is_loop = fs::exists(dir / results::kSummaryFile, ignored);
  APO_CHECK(
      DataError, is_loop || fs::exists(dir / results::kMetricsFile, ignored), dir.string(),
      ": expected the directory of a refinement loop (with a summary.json) or of a training run (with a "
      "metrics.jsonl), found neither");
  return is_loop ? write_loop_report(dir) : write_run_report(dir);
}

}  // namespace apo::report
