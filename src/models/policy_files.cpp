#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/registry.h"
#include "apo/models/safetensors.h"
#include "models/checkpoints/json_file.h"

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

void PolicyFiles::load(const std::filesystem::path& directory, const NamedTensors& parameters) {
  const SafetensorsReader reader(directory);
  reader.check(parameters);
  reader.load_into(parameters);
}

}  // namespace apo::models
