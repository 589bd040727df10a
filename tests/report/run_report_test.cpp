#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/metric_list.h"
#include "apo/report/report.h"
#include "base/base64.h"
#include "report/markup.h"
#include "report/metrics.h"
#include "support/temp_dir.h"

namespace apo::report {
namespace {

namespace fs = std::filesystem;
using apo::testing::attribute_after;
using apo::testing::markup_fault;
using apo::testing::occurrences;
using apo::testing::TempDir;

std::string full_line(int step) {
  std::ostringstream line;
  line << "{\"step\":" << step;
  int i = 0;
  for (const MetricInfo& metric : metric_list())
    line << ",\"" << metric.name
         << "\":" << (metric.name == "epoch" ? 0.01 * step : 0.5 + (step * 7 + ++i) % 13 * 0.01);
  line << ",\"eval/success_rate\":0.5}\n";
  return line.str();
}

// The page of a run with these metrics (and config, unless null).
std::string page_of(const TempDir& dir, const std::string& metrics,
                    const char* config = "objective:\n  type: apo\n") {
  write_file_atomic(dir / "metrics.jsonl", metrics);
  if (config != nullptr) write_file_atomic(dir / "config.yaml", config);
  write_run_report(dir.path());
  std::string page = read_file(dir / "report.html");
  EXPECT_EQ(markup_fault(page), "");
  return page;
}

std::string error_of(const TempDir& dir, const std::string& metrics) {
  write_file_atomic(dir / "metrics.jsonl", metrics);
  try {
    write_run_report(dir.path());
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::data);
    EXPECT_FALSE(fs::exists(dir / "report.html"));
    return error.what();
  }
  return "no error";
}

bool says(const std::string& page, const std::string& text) { return page.find(text) != std::string::npos; }

TEST(RunReport, DrawsEveryMetric) {
  TempDir dir;
  std::string metrics;
  for (int step = 1; step <= 20; ++step) metrics += full_line(step);
  const std::string page = page_of(dir, metrics);
  for (const MetricInfo& metric : metric_list())
    EXPECT_TRUE(says(page, concat("<td>", metric.name, "</td>"))) << metric.name;
  // 28 fields and one of the evaluation: a curve each (z0 has two), in 11 + 7 + 1 charts
  EXPECT_EQ(occurrences(page, "data-name="), 30);
  EXPECT_EQ(occurrences(page, "<svg class=\"chart lines\""), 19);
  EXPECT_TRUE(says(page, "<h2>Evaluation</h2>"));
  for (const char* axis : {"log-probability gained (nats)", "samples / s", "time (ms)", "memory (MiB)",
                           ">step</text>", "share of trials", "gradient norm"})
    EXPECT_TRUE(says(page, axis)) << axis;
  for (const MetricInfo& metric : metric_list())
    EXPECT_TRUE(metric.panel.empty() || says(page, ">" + std::string(metric.panel) + "<")) << metric.name;
  EXPECT_FALSE(says(page, "not drawn"));
  EXPECT_TRUE(says(page, "<dd class=\"value\">apo</dd>"));
  EXPECT_TRUE(says(page, "epoch 0.2"));
}

// The margin of this run grows from 0 to 19 nats while both groups fall.
TEST(RunReport, ShadesWhereDesirableActionsAreLost) {
  TempDir dir;
  std::string metrics;
  for (int step = 1; step <= 20; ++step)
    metrics += concat("{\"step\":", step, ",\"z0\":-1,\"reward_desirable\":", 1 - step,
                      ",\"reward_undesirable\":", 2 - 2 * step, ",\"reward_margin\":", step - 1, "}\n");
  const std::string page = page_of(dir, metrics);
  EXPECT_EQ(occurrences(page, "<rect class=\"band\""), 1);
  EXPECT_TRUE(says(page, "no place for desirable ones"));
  EXPECT_TRUE(says(page, "Shaded: below −1 nat."));
  EXPECT_TRUE(says(page, "<dt>reward, desirable (nats)</dt><dd class=\"value\">-19</dd>"));
  EXPECT_TRUE(says(page, "<dt>reward, undesirable (nats)</dt><dd class=\"value\">-38</dd>"));
  EXPECT_FALSE(says(page_of(dir, full_line(1) + full_line(2)), "Shaded"));
}

TEST(RunReport, ReplacesNoOtherPage) {
  TempDir dir;
  page_of(dir, full_line(1));
  page_of(dir, full_line(1));  // its own
  const std::string theirs = "<!DOCTYPE html>\n<html><body>my notes</body></html>\n";
  write_file_atomic(dir / "report.html", theirs);
  try {
    write_run_report(dir.path());
    ADD_FAILURE() << "replaced";
  } catch (const ConfigError& error) {
    EXPECT_TRUE(says(error.what(), "report.html: found another file")) << error.what();
  }
  EXPECT_EQ(read_file(dir / "report.html"), theirs);
}

TEST(RunReport, DrawsFieldsItDoesNotKnow) {
  TempDir dir;
  const std::string page =
      page_of(dir, "{\"step\":1,\"gpu_watts\":250,\"note\":\"x\"}\n{\"step\":2,\"gpu_watts\":260}\n");
  EXPECT_TRUE(says(page, "data-name=\"gpu_watts\""));
  EXPECT_TRUE(says(page, "The field note does not hold numbers and is not drawn."));
}

TEST(RunReport, NeedsNothingFromElsewhere) {
  TempDir dir;
  const std::string page = page_of(dir, full_line(1) + full_line(2));
  EXPECT_FALSE(says(page, "http://") || says(page, "https://") || says(page, "<link") ||
               says(page, "@import") || says(page, "url("));
  EXPECT_FALSE(says(page, "unsafe") || says(page, " style=\"") || says(page, " onclick"));
  EXPECT_TRUE(says(page, "prefers-color-scheme: dark"));
  EXPECT_TRUE(says(page, "name=\"viewport\""));
}

// SHA-256 of what stands between the tags, as the machine's own sha256sum has it, in base64.
std::string hash_of(const TempDir& dir, const std::string& page, const std::string& tag) {
  const size_t begin = page.find(concat("<", tag, ">")) + tag.size() + 2,
               end = page.find(concat("</", tag, ">"));
  write_file_atomic(dir / "between", page.substr(begin, end - begin));
  std::FILE* pipe = ::popen(concat("sha256sum ", (dir / "between").string()).c_str(), "r");
  std::string bytes;
  unsigned byte = 0;
  for (int i = 0; i < 32 && std::fscanf(pipe, "%2x", &byte) == 1; ++i) bytes += static_cast<char>(byte);
  ::pclose(pipe);
  return concat("sha256-", base64(bytes));
}

TEST(RunReport, AllowsItsOwnStyleAndScriptAlone) {
  TempDir dir;
  const std::string page = page_of(dir, full_line(1));
  EXPECT_EQ(
      attribute_after(page, "Content-Security-Policy", "content"),
      concat("default-src 'none'; img-src data:; style-src '", hash_of(dir, page, "style"), "'; script-src '",
             hash_of(dir, page, "script"), "'; base-uri 'none'; form-action 'none'"));
}

TEST(RunReport, SaysWhereItComesFrom) {
  TempDir dir;
  const std::string page =
      page_of(dir, full_line(1),
              "# made by apo-train\n#   command: apo-train --config <b>.yaml\n#   commit: 0123abc\n"
              "#   host: mill\n#   threads: 4\n"
              "# made by apo-train\n#   command: apo-train --resume\n#   host: loom\n"
              "objective:\n  type: apo\n");
  EXPECT_TRUE(says(
      page,
      "<h2>Where it comes from</h2>\n<pre>apo-train --config &lt;b&gt;.yaml\napo-train --resume\n</pre>"));
  EXPECT_TRUE(says(page, "<th>begun</th><th>gone on with</th>"));
  EXPECT_TRUE(says(page, "<td>host</td><td>mill</td><td>loom</td>"));
  EXPECT_TRUE(says(page, "<td>commit</td><td>0123abc</td>"));
  EXPECT_TRUE(says(page, "<td>threads</td><td>4</td>"));
}

TEST(RunReport, EscapesWhatTheConfigAndFieldNamesSay) {
  TempDir dir;
  const std::string page = page_of(dir, "{\"step\":1,\"<img src=x onerror=alert(1)>\":1}\n",
                                   "objective:\n  type: \"</pre><script>alert(1)</script>\"\n");
  EXPECT_EQ(occurrences(page, "<script"), 1) << "our own";
  EXPECT_EQ(occurrences(page, "<img"), 0);
  EXPECT_TRUE(says(page, "&lt;script&gt;alert(1)"));
}

TEST(RunReport, LeavesOutWhatIsNullOrMissing) {
  TempDir dir;
  const std::string page = page_of(
      dir, "{\"step\":1,\"loss\":2,\"z0\":null}\n{\"step\":2,\"z0\":null}\n{\"step\":3,\"loss\":1}\n");
  EXPECT_EQ(occurrences(page, "data-name="), 1);
  EXPECT_TRUE(says(page, "data-x=\"1 3\" data-y=\"2 1\""));
  EXPECT_TRUE(says(page,
                   "Without values in this run, and not drawn: unweighted_loss, sft_loss, reference_kl, "
                   "reward_desirable, reward_undesirable, z0, reward_margin, z0_unclamped"));
}

TEST(RunReport, CountsValuesThatAreNotFinite) {
  TempDir dir;
  const std::string page = page_of(dir,
                                   "{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":NaN}\n{\"step\":3,\"loss\":"
                                   "-Infinity}\n{\"step\":4,\"loss\":1}\n");
  EXPECT_TRUE(says(page, "loss is not finite in 2 steps, first in step 2; the curve has a gap there."));
  EXPECT_EQ(occurrences(page, "<polyline"), 2);
}

TEST(RunReport, DoesNotTakeAWordInATextForANumber) {
  TempDir dir;
  const std::string page =
      page_of(dir, "{\"step\":1,\"note\":\"a \\\" NaN: inf\",\"loss\":NaN}\n{\"step\":2,\"NaN\":3}\n");
  EXPECT_TRUE(says(page, "loss is not finite in 1 step, first in step 1"));
  EXPECT_TRUE(says(page, "data-name=\"NaN\""));
}

TEST(RunReport, LeavesOutALastLineThatIsCutAndSaysSo) {
  TempDir dir;
  const std::string page = page_of(dir, full_line(1) + full_line(2) + "{\"step\":3,\"lo");
  EXPECT_TRUE(says(page, "The last line of metrics.jsonl (line 3) is cut in the middle and was left out."));
  EXPECT_TRUE(says(page, "<dd class=\"value\">2</dd>"));
}

TEST(RunReport, TakesALastLineThatOnlyLacksItsEnd) {
  TempDir dir;
  const std::string page = page_of(dir, "{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":4}");
  EXPECT_FALSE(says(page, "is cut"));
  EXPECT_TRUE(says(page, "data-y=\"3 4\""));
}

TEST(RunReport, CountsARepeatedStepOnce) {
  TempDir dir;
  const std::string page = page_of(
      dir,
      "{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":4}\n{\"step\":2,\"loss\":5}\n{\"step\":3,\"loss\":6}\n");
  EXPECT_TRUE(says(page, "data-x=\"1 2 3\" data-y=\"3 5 6\""));
  EXPECT_TRUE(says(page, "1 line repeat"));
}

TEST(RunReport, SaysThatThereAreNoStepsYet) {
  TempDir dir;
  for (const char* metrics : {"", "\n\n", "{\"st"}) {
    const std::string page = page_of(dir, metrics);
    EXPECT_TRUE(says(page, "metrics.jsonl has no steps yet"));
    EXPECT_EQ(occurrences(page, "<figure"), 0);
  }
}

TEST(RunReport, DoesWithoutAConfig) {
  TempDir dir;
  const std::string page = page_of(dir, full_line(1), nullptr);
  EXPECT_TRUE(says(page, "config.yaml is missing"));
  EXPECT_TRUE(says(page, "labels.json is missing"));
}

TEST(RunReport, SaysTheSameTwice) {
  TempDir dir;
  const std::string page = page_of(dir, full_line(1) + full_line(2));
  EXPECT_EQ(page, page_of(dir, full_line(1) + full_line(2)));
}

TEST(RunReport, IsNamedAfterItsDirectory) {
  TempDir dir;
  fs::create_directories(dir / "night<7>");
  write_file_atomic(dir / "night<7>" / "metrics.jsonl", full_line(1));
  write_run_report((dir / "night<7>").string() + "/");
  EXPECT_TRUE(says(read_file(dir / "night<7>" / "report.html"), "<h1>Training run night&lt;7&gt;</h1>"));
}

TEST(RunReport, StaysSmallForAHundredThousandSteps) {
  TempDir dir;
  std::string metrics;
  for (int step = 1; step <= 100000; ++step) metrics += full_line(step);
  const std::string page = page_of(dir, metrics);
  EXPECT_LT(page.size(), 2u << 20);
  EXPECT_TRUE(says(page, "Line: centred mean of 2,501 steps; pale: least to largest single value."));
}

// A run from step 1: 3 + 4 seconds; 2 + 2 samples; 1 of the 7 seconds waiting.
TEST(RunReport, AddsUpTimeAndSamples) {
  TempDir dir;
  const std::string page = page_of(
      dir,
      "{\"step\":1,\"step_seconds\":3,\"data_seconds\":0.25,\"num_desirable\":1,\"num_undesirable\":1}\n"
      "{\"step\":2,\"step_seconds\":4,\"data_seconds\":0.75,\"num_desirable\":2,\"num_undesirable\":0}\n");
  EXPECT_TRUE(says(page, "<dd class=\"value\">7.0 s</dd>"));
  EXPECT_TRUE(says(page, "4 samples in all; 14.3% of the time in steps"));
}

const char* kLabels = R"({"files": 2, "episodes": 40, "labels": {"expert/desirable: demonstration": 5000,
  "interactions/desirable: policy": 700, "interactions/intervention: human correction": 300,
  "interactions/skipped: idle": 60, "interactions/take-over: whole window": 30,
  "interactions/undesirable: before <take-over>": 200},
  "pools": {"desirable": 5700, "intervention": 300, "undesirable": 200},
  "batch": {"desirable": 24, "intervention": 12, "undesirable": 12}})";

// 6,260 recorded steps; 5,000 of them are 79.9 %. Take-overs are no steps.
TEST(RunReport, ShowsWhatWasLearnedFrom) {
  TempDir dir;
  write_file_atomic(dir / "labels.json", kLabels);
  const std::string page = page_of(dir, full_line(1));
  EXPECT_TRUE(says(page, "What it learned from"));
  EXPECT_TRUE(says(page, "<title>expert/desirable: demonstration: 5,000 (79.9%)</title>"));
  EXPECT_TRUE(says(page, "h1 t0\"><title>interactions/undesirable: before &lt;take-over&gt;: 200 (3.2%)"));
  EXPECT_FALSE(says(page, "whole window"));
  EXPECT_TRUE(says(
      page,
      "It learned from 40 episodes in 2 files with the steps 5,700 desirable, 300 human corrections, 200 "
      "undesirable; each batch of 48 draws 24 desirable, 12 human corrections, 12 undesirable."));
}

const char* objective_config(const std::string& type) {
  static std::string config;
  config = "objective:\n  type: " + type + "\n  weights:\n    type: adaptive\n    normalization: sum\n";
  return config.c_str();
}

// 24 drawn steps and 24 corrections, each with its counterpart: 72 samples. Pools that nothing is drawn from
// do not count as learned from.
TEST(RunReport, CountsWhatDpoAddsToTheBatch) {
  TempDir dir;
  const auto sentence = [&](const std::string& type, const char* batch) {
    write_file_atomic(dir / "labels.json",
                      concat(R"({"files": 1, "episodes": 4, "pools": {"desirable": 90, "intervention": 30,
                             "undesirable": 9}, "batch": )",
                             batch, "}"));
    const std::string page = page_of(dir, full_line(1), objective_config(type));
    const size_t begin = page.find("It learned from");
    return page.substr(begin, page.find("</p>", begin) - begin);
  };
  EXPECT_EQ(sentence("dpo", R"({"desirable": 24, "intervention": 24, "undesirable": 0})"),
            "It learned from 4 episodes in 1 file with the steps 90 desirable, 30 human corrections; each "
            "batch of 48 draws 24 desirable, 24 human corrections, and to each correction what the policy "
            "wanted there, where that was recorded: up to 72 samples.");
  EXPECT_EQ(sentence("dpo", R"({"intervention": 8})"),
            "It learned from 4 episodes in 1 file with the steps 30 human corrections; each batch of 8 draws "
            "8 human corrections, and to each correction what the policy wanted there, where that was "
            "recorded: up to 16 samples.");
  EXPECT_EQ(sentence("tpo", R"({"intervention": 21, "undesirable": 5})"),
            "It learned from 4 episodes in 1 file with the steps 30 human corrections, 9 undesirable; each "
            "batch draws whole corrections and the steps that led to them, on average 21 human corrections, "
            "5 undesirable.");
  EXPECT_EQ(sentence("sft", "{}"),
            "It learned from 4 episodes in 1 file with the steps 90 desirable, 30 human "
            "corrections, 9 undesirable.");
}

std::string heavy_sample(const std::string& picture, double lambda) {
  return concat(
      "{\"file\": \"somewhere/a<b.hdf5\", \"episode\": \"demo_3\", \"timestep\": 17, \"source\": "
      "\"intervention\", ",
      "\"instruction\": \"lift <it>\", \"step\": 450, \"weight\": 0.25, \"lambda\": ", lambda,
      ", \"reward\": null, \"action_l1\": 0.5, \"picture\": \"", picture, "\"}");
}

void write_heaviest(const TempDir& dir, const std::string& desirable, const std::string& undesirable) {
  write_file_atomic(dir / "heaviest_samples.json",
                    concat("{\"from_step\": 251, \"to_step\": 500, \"desirable\": [", desirable,
                           "], \"undesirable\": [", undesirable, "]}"));
}

TEST(RunReport, ShowsTheHeaviestSamples) {
  TempDir dir;
  fs::create_directories(dir / "heaviest");
  write_file_atomic(dir / "heaviest" / "a.webp", std::string("RIFF\4\0\0\0WEBP", 12));
  write_heaviest(dir, heavy_sample("heaviest/a.webp", 0.9) + "," + heavy_sample("heaviest/b.webp", 0.4), "");
  const std::string page = page_of(dir, full_line(1));
  EXPECT_TRUE(says(page, "What weighed most"));
  EXPECT_TRUE(says(
      page,
      "<img alt=\"a&lt;b.hdf5, demo_3, timestep 17: the human acted\" src=\"data:image/webp;base64,UklG"));
  EXPECT_TRUE(says(page, "The picture heaviest/b.webp is missing."));
  EXPECT_TRUE(
      says(page, "<tr><td>λ</td><td>0.9</td></tr><tr><td>w</td><td>0.25</td></tr><tr><td>action error</td>"));
  EXPECT_TRUE(says(page, "From step 251 to 500."));
  EXPECT_FALSE(says(page, "These weigh the same")) << "0.9 and 0.4";
  EXPECT_FALSE(says(page, "<h3>Undesirable"));

  write_heaviest(dir, heavy_sample("heaviest/a.webp", 1) + "," + heavy_sample("heaviest/a.webp", 1),
                 heavy_sample("heaviest/a.webp", 0.5));
  const std::string alike = page_of(dir, full_line(1));
  EXPECT_TRUE(says(alike, "These weigh the same; first come those that the policy predicted worst."));
  EXPECT_TRUE(says(alike, "<h3>Undesirable"));
}

// What w is depends on the objective; where it decides nothing it is not shown.
TEST(RunReport, ExplainsTheWeightsOfItsObjective) {
  TempDir dir;
  write_heaviest(dir, heavy_sample("", 1) + "," + heavy_sample("", 1),
                 heavy_sample("", 1) + "," + heavy_sample("", 1));
  const auto page = [&](const char* config) { return page_of(dir, full_line(1), config); };
  const auto shows_weight = [](const std::string& text) { return says(text, "<td>w</td>"); };
  EXPECT_TRUE(says(page(objective_config("apo")),
                   "; w: its share of its group’s action error in the batch, which λ"));
  EXPECT_TRUE(says(page("objective:\n  type: apo\n  weights:\n    normalization: mean\n"),
                   "; w: its action error beside the mean of its group in the batch, which λ comes from;"));
  for (const auto& [more, words] : std::vector<std::pair<std::string, std::string>>{
           {"    group_size: 8\n",
            "its share of its group’s action error in 8 samples of the batch’s mix, which λ"},
           {"    group_size: 0\n", "its share of its group’s action error in the batch, which λ"}})
    EXPECT_TRUE(says(page(("objective:\n  type: apo\n  weights:\n" + more).c_str()), words)) << more;
  for (const char* config :
       {"objective:\n  type: apo\n  weights:\n    type: uniform\n", "objective:\n  type: kto\n"}) {
    const std::string uniform = page(config);
    EXPECT_FALSE(shows_weight(uniform) || says(uniform, "; w: ")) << config;
    EXPECT_TRUE(
        says(uniform, "All samples weigh the same; first come those that the policy predicted worst."));
  }
  EXPECT_FALSE(shows_weight(page("run:\n  seed: 1\n"))) << "no objective is known";
  EXPECT_TRUE(says(page(objective_config("sft")), "; w: its share of the tokens that the batch imitates;"));
  EXPECT_TRUE(says(page(objective_config("sft")), "Recorded actions that are imitated."));
  EXPECT_TRUE(says(page(objective_config("weighted-bc")), "that the batch imitates, each counted λ times;"));
  const std::string tpo = page(objective_config("tpo"));
  EXPECT_TRUE(says(
      tpo,
      "λ: what its pair’s loss was multiplied with; w: its share of the batch: all pairs have the same"));
  EXPECT_TRUE(says(tpo, "All pairs weigh the same; first come those that the policy still predicted best."));
  EXPECT_TRUE(says(tpo, "less likely than the correction."));
  EXPECT_TRUE(shows_weight(tpo));
}

// An undesirable sample of dpo was never done: the human acted.
TEST(RunReport, DoesNotSayThatThePolicyDidWhatItOnlyWanted) {
  TempDir dir;
  std::string wanted = heavy_sample("", 1);
  wanted.replace(wanted.find("\"intervention\""), 14, "\"policy\"");
  write_heaviest(dir, heavy_sample("", 1), wanted);
  const std::string dpo = page_of(dir, full_line(1), objective_config("dpo"));
  EXPECT_TRUE(says(dpo, "What the policy wanted while the human acted, which is to become less likely."));
  EXPECT_TRUE(says(dpo, "a&lt;b.hdf5; the policy wanted this while the human acted;"));
  EXPECT_TRUE(says(dpo, "blue what the policy wanted at the same moment."));
  EXPECT_FALSE(says(dpo, "the policy acted"));
  EXPECT_FALSE(says(dpo, "before a take-over"));
  const std::string apo = page_of(dir, full_line(1), objective_config("apo"));
  EXPECT_TRUE(says(apo, "a&lt;b.hdf5; the policy acted;"));
  EXPECT_TRUE(says(apo, "own actions before a take-over"));
  EXPECT_FALSE(says(apo, "reward: ")) << "neither has one";
}

TEST(RunReport, NamesWhatIsWrongWithItsRecords) {
  TempDir dir;
  write_file_atomic(dir / "labels.json", "{\"labels\": {\"a\": -1}}");
  EXPECT_EQ(error_of(dir, full_line(1)),
            (dir / "labels.json").string() + ": labels.a: expected a whole number, at least 0, found -1");
  write_file_atomic(dir / "labels.json", "{");
  EXPECT_TRUE(says(error_of(dir, full_line(1)), "labels.json:1: expected JSON"));
  write_file_atomic(dir / "labels.json", "{}");
  write_heaviest(dir, heavy_sample("../secret.webp", 1), "");
  EXPECT_TRUE(says(error_of(dir, full_line(1)), "desirable[0].picture: expected a relative path that stays"));
}

TEST(AnyReport, IsOfWhatLiesThere) {
  TempDir dir;
  try {
    write_report(dir.path());
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_TRUE(says(error.what(), "found neither")) << error.what();
  }
  write_file_atomic(dir / "metrics.jsonl", full_line(1));
  write_report(dir.path());
  EXPECT_TRUE(says(read_file(dir / "report.html"), "Training run"));
  write_file_atomic(dir / "summary.json", "{\"rounds\": [{}]}");
  write_report(dir.path());
  EXPECT_TRUE(says(read_file(dir / "report.html"), "Refinement loop"));
}

TEST(BadMetrics, NamesFileAndLineOfWhatIsNotJson) {
  TempDir dir;
  const std::string where = (dir / "metrics.jsonl").string();
  EXPECT_EQ(error_of(dir, full_line(1) + "{\"step\":2,\n" + full_line(3)),
            where + ":2: expected one JSON object, found {\"step\":2,");
  EXPECT_EQ(error_of(dir, "[1, 2]\n"), where + ":1: expected one JSON object, found [1, 2]");
  EXPECT_EQ(error_of(dir, full_line(1) + "\n" + std::string(100, 'x') + "\n"),
            where + ":3: expected one JSON object, found " + std::string(57, 'x') + "...");
}

TEST(BadMetrics, NamesTheFieldThatIsNoNumber) {
  TempDir dir;
  const std::string where = (dir / "metrics.jsonl").string();
  EXPECT_EQ(error_of(dir, full_line(1) + "{\"step\":2,\"loss\":\"low\"}\n"),
            where + ":2: loss: expected a number or null, found \"low\"");
  EXPECT_EQ(error_of(dir, "{\"loss\":1}\n"), where + ":1: expected the field \"step\", found none");
  EXPECT_EQ(error_of(dir, "{\"step\":1.5}\n"), where + ":1: step: expected a whole number, found 1.5");
  EXPECT_EQ(error_of(dir, "{\"step\":null}\n"), where + ":1: step: expected a whole number, found null");
}

TEST(BadMetrics, NamesTheFileThatIsMissing) {
  TempDir dir;
  try {
    write_run_report(dir.path());
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_TRUE(says(error.what(), (dir / "metrics.jsonl").string() + ": cannot open")) << error.what();
  }
}

TEST(BadMetrics, LeavesAnOlderPageAlone) {
  TempDir dir;
  const std::string page = page_of(dir, full_line(1));
  write_file_atomic(dir / "metrics.jsonl", "broken\n");
  EXPECT_THROW(write_run_report(dir.path()), DataError);
  EXPECT_EQ(read_file(dir / "report.html"), page);
}

}  // namespace
}  // namespace apo::report
