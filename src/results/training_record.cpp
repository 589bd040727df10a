#include "results/training_record.h"

#include <type_traits>

#include "apo/base/files.h"
#include "base/json.h"

namespace apo::results {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// Members with their names, once for both directions.
template <class Labels, class Field>
requires std::is_same_v<std::remove_const_t<Labels>, RunLabels>
void for_each_field(Labels& labels, Field&& field) {
  field("files", labels.files);
  field("episodes", labels.episodes);
  field("labels", labels.labels);
  field("pools", labels.pools);
  field("batch", labels.batch);
}

template <class Sample, class Field>
requires std::is_same_v<std::remove_const_t<Sample>, HeavySample>
void for_each_field(Sample& sample, Field&& field) {
  field("file", sample.file);
  field("episode", sample.episode);
  field("timestep", sample.timestep);
  field("source", sample.source);
  field("instruction", sample.instruction);
  field("step", sample.step);
  field("weight", sample.weight);
  field("lambda", sample.lambda);
  field("reward", sample.reward);
  field("action_l1", sample.action_l1);
}

constexpr const char* kPicture = "picture";

ordered_json value_json(const std::optional<double>& value) { return value ? ordered_json(*value) : nullptr; }
template <class T>
ordered_json value_json(const T& value) {
  return value;
}

void read(const JsonField& field, int64_t& value) { value = field.count().value_or(value); }
void read(const JsonField& field, std::string& value) { value = field.get_or<std::string>(); }
void read(const JsonField& field, std::optional<double>& value) { value = field.find<double>(); }
void read(const JsonField& field, std::map<std::string, int64_t>& value) { value = field.counts(); }

template <class Members>
ordered_json to_json(const Members& members) {
  ordered_json json;
  for_each_field(members, [&](const char* name, const auto& value) { json[name] = value_json(value); });
  return json;
}

template <class Members>
Members read_members(const JsonField& object) {
  Members members;
  for_each_field(members, [&](const char* name, auto& value) { read(object[name], value); });
  return members;
}

ordered_json to_json(const std::vector<HeavySample>& samples) {
  ordered_json list = ordered_json::array();
  for (const HeavySample& sample : samples) {
    list.push_back(to_json<HeavySample>(sample));
    if (!sample.picture.empty()) list.back()[kPicture] = sample.picture;
  }
  return list;
}

std::vector<HeavySample> read_samples(const JsonField& list) {
  std::vector<HeavySample> samples;
  for (const JsonField& field : list.list()) {
    samples.push_back(read_members<HeavySample>(field));
    samples.back().picture = field[kPicture].inner_path();
  }
  return samples;
}

bool is_absent(const fs::path& path) {
  std::error_code ignored;
  return !fs::exists(path, ignored);
}

}  // namespace

void write_labels(const fs::path& run_dir, const RunLabels& labels) {
  write_json(run_dir / kLabelsFile, to_json<RunLabels>(labels));
}

void write_heaviest(const fs::path& run_dir, const HeaviestRecord& heaviest) {
  write_json(run_dir / kHeaviestFile, {{"from_step", heaviest.from_step},
                                       {"to_step", heaviest.to_step},
                                       {"desirable", to_json(heaviest.desirable)},
                                       {"undesirable", to_json(heaviest.undesirable)}});
}

std::optional<RunLabels> read_labels(const fs::path& run_dir) {
  if (is_absent(run_dir / kLabelsFile)) return std::nullopt;
  return read_members<RunLabels>(JsonFile(run_dir / kLabelsFile).root());
}

std::optional<HeaviestRecord> read_heaviest(const fs::path& run_dir) {
  if (is_absent(run_dir / kHeaviestFile)) return std::nullopt;
  const JsonFile file(run_dir / kHeaviestFile);
  HeaviestRecord heaviest{.desirable = read_samples(file["desirable"]),
                          .undesirable = read_samples(file["undesirable"])};
  read(file["from_step"], heaviest.from_step);
  read(file["to_step"], heaviest.to_step);
  return heaviest;
}

}  // namespace apo::results
