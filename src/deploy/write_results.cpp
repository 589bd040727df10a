#include <nlohmann/json.hpp>
#include <system_error>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "apo/deploy/evaluator.h"
#include "apo/deploy/outputs.h"
#include "base/provenance_json.h"
#include "results/evaluation_json.h"
#include "results/file_names.h"

namespace apo::deploy {

using json = nlohmann::ordered_json;

void write_results(const EvalResult& result, const environments::EnvironmentOptions& environment,
                   const EvalOptions& options, const std::filesystem::path& directory) {
  check_results_directory(directory);
  std::error_code error;
  if (std::filesystem::exists(directory / results::kResultsFile, error))
    log_warn(directory.string(), ": replaces the results of an earlier evaluation");
  json object = json::object();
  object["provenance"] = provenance_json<json>();
  object["config"] = {{"environment", config::print(environment)}, {"eval", config::print(options)}};
  object.update(results::to_json(result));
  const auto write = [&](const EvalResult& drawn, const std::string& prefix, json& into) {
    for (const auto& [trial, animation] : drawn.animations) {
      const std::string name = concat(prefix, "trial-", trial, ".webp");
      write_file_atomic(directory / name, animation);
      into["animations"][std::to_string(trial)] = name;
    }
  };
  write(result, "", object);
  for (const DisruptedResult& disrupted : result.disruptions)
    write(disrupted.result, disrupted.disruption + "-", object["disruptions"][disrupted.disruption]);
  if (result.disruptions.empty())
    std::filesystem::remove(directory / "disruptions.md", error);  // of an earlier evaluation
  else
    write_file_atomic(directory / "disruptions.md", result.disruption_markdown());
  write_file_atomic(directory / results::kResultsFile, object.dump(2) + "\n");
}

}  // namespace apo::deploy
