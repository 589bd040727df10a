#include <torch/types.h>

#include <charconv>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/description.h"
#include "apo/models/registry.h"
#include "apo/models/safetensors.h"
#include "base/json.h"

namespace apo::models {

void PolicyFiles::write(const std::filesystem::path& directory, const NamedTensors& parameters) const {
  nlohmann::ordered_json json{{"model_type", type}};
  for (const auto& [name, text] : notes) json[name] = text;
  write_json(directory / "config.json", json);
  write_file_atomic(directory / "dataset_statistics.json", to_json(statistics, type));
  write_safetensors(directory / "model.safetensors", parameters);
}

PolicyFiles PolicyFiles::read(const std::filesystem::path& directory) {
  PolicyFiles files;
  const JsonFile config(directory / "config.json");
  for (const auto& [name, value] : config.root().entries())
    (name == "model_type" ? files.type : files.notes[name]) = value.get<std::string>();
  const std::filesystem::path path = directory / "dataset_statistics.json";
  files.statistics = tokenizers::statistics_from_json(read_file(path), files.type, path.string());
  return files;
}

const std::string& PolicyFiles::note(const std::string& name) const {
  const auto found = notes.find(name);
  APO_CHECK(DataError, found != notes.end(), "config.json of a policy of the kind ", type, ": expected ",
            name, ", found none");
  return found->second;
}

int64_t PolicyFiles::number(const std::string& name) const {
  const std::string& text = note(name);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  APO_CHECK(DataError, error == std::errc() && end == text.data() + text.size(),
            "config.json of a policy of the kind ", type, ": ", name, ": expected a whole number, found \"",
            text, "\"");
  return value;
}

PolicyFiles PolicyFiles::with(const PolicyOptions& options) const {
  PolicyFiles files = *this;
  if (!options.statistics.empty())
    files.statistics = tokenizers::statistics_from_json(read_file(options.statistics), options.unnorm_key,
                                                        options.statistics);
  override_statistics(options, type, files.statistics);
  return files;
}

void describe_by_files(PolicyFactory& factory) {
  factory.describe = [](const PolicyOptions& options, const std::filesystem::path& directory) {
    PolicyDescription description;
    description.statistics = PolicyFiles::read(directory).with(options).statistics;
    return description;
  };
}

void PolicyFiles::load(const std::filesystem::path& directory, const NamedTensors& parameters) {
  const SafetensorsReader reader(directory);
  reader.check(parameters);
  reader.load_into(parameters);
}

}  // namespace apo::models
