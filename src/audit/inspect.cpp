#include "apo/audit/inspect.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>
#include <sstream>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/data/statistics.h"
#include "audit/scan.h"

namespace apo::audit {
namespace {

using Json = nlohmann::ordered_json;

// What one source holds, gathered episode by episode.
struct SourceTally {
  std::map<std::string, int64_t> formats, by_source, outcomes, instructions, by_reason;
  std::map<std::string, int64_t> success{{"success", 0}, {"failure", 0}, {"unknown", 0}};
  std::map<std::string, std::set<std::string>> cameras;
  std::map<std::string, int64_t> states;
  std::map<std::string, std::string> unused, remarks;  // of the first episode that has them
  std::vector<std::string> left_out;
  LabelCounts labels;
  std::map<int64_t, int64_t> windows;  // of take-overs that make negatives, by length
  std::array<int64_t, 4> by_label{};
  ActionSample actions;
  int64_t files = 0, episodes = 0, steps = 0;
  size_t action_size = 0;
  std::string first_path;
  std::vector<std::pair<std::string, std::string>> attributes;

  void add_file(const ScannedFile& in);
  void add(const ScannedEpisode& e);
  void add_steps(const ScannedEpisode& e);
};

constexpr const char* kNotRecorded = "not recorded";

std::string reason_of(const EpisodeRecord& record, int64_t timestep) {
  const RecordedTakeOver* take_over = find_take_over(record, timestep);
  return take_over == nullptr ? kNotRecorded : take_over->reason.empty() ? "none given" : take_over->reason;
}

void SourceTally::add_file(const ScannedFile& in) {
  ++formats[std::string(to_string(in.file.format()))];
  for (const std::string& what : in.file.left_out())
    left_out.push_back(concat(in.file.path().filename().string(), ": ", what));
  if (files++ == 0) {
    attributes = in.file.attributes();
    first_path = in.file.path().string();
  }
}

void SourceTally::add(const ScannedEpisode& e) {
  const EpisodeRecord& record = e.record;
  ++episodes;
  steps += record.num_steps();
  ++success[!record.success ? "unknown" : *record.success ? "success" : "failure"];
  if (!record.outcome.empty()) ++outcomes[record.outcome];
  ++instructions[record.instruction];
  for (const auto& [name, size] : record.cameras) cameras[name].insert(concat(size.height, "x", size.width));
  for (const auto& [name, width] : record.states) states[name] = width;
  unused.insert(record.unused.begin(), record.unused.end());
  remarks.insert(record.remarks.begin(), record.remarks.end());
  const size_t size = record.actions[0].size();
  if (action_size == 0) action_size = size;
  APO_CHECK(DataError, size == action_size, e.in.file.path().string(), ": actions of ", record.name,
            ": expected ", action_size, " numbers as in ", first_path, ", found ", size);
  count_labels(e.steps, labels);
  add_steps(e);
}

void SourceTally::add_steps(const ScannedEpisode& e) {
  const EpisodeRecord& record = e.record;
  expect_finite(e);
  for (size_t t = 0; t < e.steps.size(); ++t) {
    ++by_label[static_cast<size_t>(e.steps[t].label)];
    ++by_source[record.recorded[t] ? std::string(to_string(record.sources[t])) : "marked skipped"];
    if (e.steps[t].take_over && !e.steps[t].no_negatives) ++windows[e.steps[t].window_steps];
    if (e.steps[t].take_over) ++by_reason[reason_of(record, static_cast<int64_t>(t))];
    const bool finite = std::all_of(record.actions[t].begin(), record.actions[t].end(),
                                    [](float a) { return std::isfinite(a); });
    if (finite && record.recorded[t]) actions.add(record.actions[t]);
  }
}

// Per dimension over every recorded step, whatever its label.
Json action_numbers(const SourceTally& tally) {
  Json json{{"size", tally.action_size}};
  for (size_t j = 0; j < tally.actions.size(); ++j) {
    const std::vector<double> x = tally.actions.sorted_column(j);
    json["min"].push_back(tally.actions.min(j));
    json["max"].push_back(tally.actions.max(j));
    json["q01"].push_back(quantile(x, 0.01));
    json["q99"].push_back(quantile(x, 0.99));
  }
  return json;
}

// How long windows are: quartiles and the number of take-overs by length.
void add_windows(const SourceTally& tally, Json& json) {
  std::vector<double> lengths;
  json["windows_by_steps"] = Json::object();
  for (const auto& [steps, n] : tally.windows) {
    lengths.insert(lengths.end(), static_cast<size_t>(n), static_cast<double>(steps));
    json["windows_by_steps"][std::to_string(steps)] = n;
  }
  json["window_steps"] = Json::object();
  if (lengths.empty()) return;
  for (const auto& [name, q] :
       {std::pair{"min", 0.0}, {"q25", 0.25}, {"median", 0.5}, {"q75", 0.75}, {"max", 1.0}})
    json["window_steps"][name] = quantile(lengths, q);
}

// Counts by "label: reason", and the take-overs beside them.
void add_labels(const SourceTally& tally, Json& json) {
  int64_t whole = 0, cut_short = 0, no_negatives = 0, nothing_to_imitate = 0, no_onset = 0;
  json["labels"] = Json::object();
  for (const auto& [name, n] : tally.labels) {
    if (name == "take-over: whole window") {
      whole = n;
    } else if (name == "take-over: window cut short") {
      cut_short = n;
    } else if (name == "take-over: no negatives") {
      no_negatives = n;
    } else if (name == "take-over: nothing to imitate") {
      nothing_to_imitate = n;
    } else if (name == "take-over: onset not found") {
      no_onset = n;
    } else {
      json["labels"][name] = n;
    }
  }
  json["take_overs"] = whole + cut_short + no_negatives;
  json["take_overs_by_reason"] = tally.by_reason;
  json["windows_cut_short"] = cut_short;
  json["take_overs_without_negatives"] = no_negatives;
  json["take_overs_with_nothing_to_imitate"] = nothing_to_imitate;
  json["take_overs_without_onset"] = no_onset;
  add_windows(tally, json);
}

Json describe(const SourceOptions& source, bool is_expert, const DataOptions& options) {
  SourceTally tally;
  scan_source(source, 0, is_expert, options,
              {.file = [&](const ScannedFile& in) { tally.add_file(in); },
               .episode = [&](const ScannedEpisode& e) { tally.add(e); }});
  const auto pool = [&tally](StepLabel label) { return tally.by_label[static_cast<size_t>(label)]; };
  Json json{{"path", source.path},
            {"kind", is_expert ? "expert" : "interactions"},
            {"format", tally.formats},
            {"files", tally.files},
            {"episodes", tally.episodes},
            {"steps", tally.steps},
            {"steps_by_source", tally.by_source}};
  add_labels(tally, json);
  json["pools"] = {{"desirable", pool(StepLabel::desirable)},
                   {"intervention", pool(StepLabel::intervention)},
                   {"undesirable", pool(StepLabel::undesirable)}};
  json["success"] = tally.success;
  json["outcomes"] = tally.outcomes;
  json["action"] = action_numbers(tally);
  json["cameras"] = tally.cameras;
  json["states"] = tally.states;
  json["unused"] = tally.unused;
  json["remarks"] = tally.remarks;
  json["left_out"] = tally.left_out;
  json["instructions"] = tally.instructions;
  json["attributes"] = Json::object();
  for (const auto& [key, value] : tally.attributes) json["attributes"][key] = value;
  return json;
}

Json inspect(const DataOptions& options) {
  APO_CHECK(ConfigError, !options.expert.empty() || !options.interactions.empty(),
            "no data to inspect: give files, or a config with data.expert or data.interactions");
  Json json;
  for (const SourceOptions& source : options.expert)
    json["sources"].push_back(describe(source, true, options));
  for (const SourceOptions& source : options.interactions)
    json["sources"].push_back(describe(source, false, options));
  Json total{{"files", 0},
             {"episodes", 0},
             {"steps", 0},
             {"pools", {{"desirable", 0}, {"intervention", 0}, {"undesirable", 0}}}};
  for (const Json& source : json["sources"]) {
    for (const char* key : {"files", "episodes", "steps"})
      total[key] = total[key].get<int64_t>() + source[key].get<int64_t>();
    for (auto& [pool, n] : total["pools"].items())
      n = n.get<int64_t>() + source["pools"][pool].get<int64_t>();
  }
  json["total"] = total;
  return json;
}

// "a 3, b 5"
std::string listed(const Json& counts) {
  std::string text;
  for (const auto& [name, n] : counts.items()) append_item(text, ", ", name, " ", n.get<int64_t>());
  return text.empty() ? "none" : text;
}

std::string numbers(const Json& list) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(3);
  for (const Json& x : list) out << std::setw(8) << x.get<double>();
  return out.str();
}

void print_source(const Json& source, bool by_onset, std::ostream& out) {
  const auto line = [&out](const std::string& name, const std::string& text) {
    out << "  " << std::left << std::setw(18) << printable(name) << (name.size() < 18 ? "" : " ")
        << printable(text) << '\n';
  };
  out << printable(source["path"].get<std::string>()) << " (" << source["kind"].get<std::string>() << ")\n";
  std::string formats;
  for (const auto& [name, n] : source["format"].items()) append_item(formats, ", ", name);
  line("size",
       concat(source["files"], " files, ", source["episodes"], " episodes, ", source["steps"], " steps"));
  line("layout", formats);
  line("steps by source", listed(source["steps_by_source"]));
  const auto no_negatives = source["take_overs_without_negatives"].get<int64_t>();
  line("take-overs", concat(source["take_overs"], " (window cut short: ", source["windows_cut_short"],
                            ", nothing to imitate: ", source["take_overs_with_nothing_to_imitate"],
                            no_negatives > 0 ? concat(", no negatives: ", no_negatives) : "", ")"));
  if (const Json& w = source["window_steps"]; by_onset && !w.empty()) {
    line("windows",
         concat("by onset (not found: ", source["take_overs_without_onset"], "), steps: min ", w["min"],
                ", quartiles ", w["q25"], ' ', w["median"], ' ', w["q75"], ", max ", w["max"]));
    std::string by_steps;
    for (const auto& [steps, n] : source["windows_by_steps"].items())
      append_item(by_steps, ", ", steps, ": ", n.get<int64_t>());
    line("  take-overs", concat("by steps: ", by_steps));
  }
  if (const Json& reasons = source["take_overs_by_reason"];
      std::ssize(reasons) > (reasons.contains(kNotRecorded) ? 1 : 0))
    line("reasons", listed(reasons));
  line("success", listed(source["success"]));
  if (!source["outcomes"].empty()) line("outcomes", listed(source["outcomes"]));
  line("labels", "");
  for (const auto& [name, n] : source["labels"].items())
    out << "    " << std::setw(40) << std::left << printable(name) << n << '\n';
  line("pools", listed(source["pools"]));
  std::string cameras, states;
  for (const auto& [name, sizes] : source["cameras"].items()) {
    append_item(cameras, ", ", name);
    for (const Json& size : sizes) cameras += concat(' ', size.get<std::string>());
  }
  for (const auto& [name, n] : source["states"].items()) append_item(states, ", ", name, " [", n, "]");
  line("cameras", cameras.empty() ? "none" : cameras);
  line("states", states.empty() ? "none" : states);
  for (const auto& [name, what] : source["remarks"].items())
    line("read as", concat(name, ": ", what.get<std::string>()));
  for (const auto& [name, what] : source["unused"].items())
    line("not read", concat(name, ": ", what.get<std::string>()));
  for (const Json& what : source["left_out"]) line("left out", what.get<std::string>());
  for (const auto& [name, n] : source["instructions"].items())
    line("instruction", concat("'", name, "' in ", n, " episodes"));
  line("action", concat("[", source["action"]["size"], "]"));
  for (const char* key : {"min", "q01", "q99", "max"})
    if (source["action"].contains(key)) line(std::string("  ").append(key), numbers(source["action"][key]));
  for (const auto& [name, value] : source["attributes"].items()) {
    const std::string text = value.get<std::string>();
    if (text.size() <= 60 && text.find('\n') == std::string::npos) line(name, text);
  }
}

}  // namespace

std::string inspect_json(const DataOptions& options) {
  return inspect(options).dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string inspect_text(const DataOptions& options) {
  const Json json = inspect(options);
  std::ostringstream out;
  for (const Json& source : json["sources"]) {
    print_source(source, options.labels.window == LabelWindow::onset, out);
    out << '\n';
  }
  const Json& total = json["total"];
  out << "total: " << total["files"] << " files, " << total["episodes"] << " episodes, " << total["steps"]
      << " steps; pools: " << listed(total["pools"]) << '\n';
  return out.str();
}

DataOptions options_for_paths(const std::vector<std::string>& paths, TrajectoryFormat format,
                              const std::string& instruction, ImageOrientation orientation) {
  DataOptions options;
  for (const std::string& path : paths)
    options.interactions.push_back({path, format, instruction, 0, orientation});
  return options;
}

LabelCounts write_label_lines(const DataOptions& options, std::ostream& out) {
  const Dataset dataset(options);
  LabelCounts counts;
  for (int32_t f = 0; f < dataset.num_files(); ++f) {
    for (int32_t e = 0; e < dataset.num_episodes(f); ++e) {
      const EpisodeRecord& record = dataset.record(f, e);
      for (int32_t t = 0; t < record.num_steps(); ++t) {
        const LabelledStep& step = dataset.label({f, e, t});
        count_labels({&step, 1}, counts);
        const Json line{{"file", dataset.file_path(f).string()},
                        {"episode", record.name},
                        {"timestep", t},
                        {"source", to_string(record.sources[static_cast<size_t>(t)])},
                        {"label", to_string(step.label)},
                        {"reason", step.reason}};
        out << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
      }
    }
  }
  out.flush();
  APO_CHECK(RunError, out.good(), "cannot write the labels (disk full?)");
  return counts;
}

}  // namespace apo::audit
