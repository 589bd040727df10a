#include "apo/loop/comparison.h"

#include <filesystem>
#include <set>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/config/options.h"
#include "results/file_names.h"

namespace apo::loop {

void MethodOptions::visit(config::Visitor& v) {
  v("name", name, "in tables and directories; not \"base\"");
  v("objective", objective, "as the top-level section, whose values are no defaults here");
  v("pools", pools, "as data.pools");
  v("interactions", interactions, "false: learns from the expert data alone, a control");
  v("learning_rate", learning_rate, "null: optimizer.learning_rate", config::positive());
  v("batch_size", batch_size, "null: train.batch_size", config::at_least(1));
}

void ComparisonOptions::visit(config::Visitor& v) {
  v("methods", methods,
    "what is refined side by side from the same corrections; none: no comparison, only the top-level "
    "objective");
  v("episodes", episodes, "of each method's next deployment, on the same seeds", config::at_least(1));
  v("take_overs", take_overs,
    "end each method's next deployment after so many take-overs, so that all learn from as many; `episodes` "
    "is then the most; 0 = `episodes` alone count",
    config::at_least(0));
  v("against", against, "methods that every other one is tested against; base: before any refinement");
}

void check(const ComparisonOptions& options) {
  std::set<std::string> names = {"base"};
  for (size_t i = 0; i < options.methods.size(); ++i) {
    const MethodOptions& method = options.methods[i];
    const std::string key = concat("refine.comparison.methods[", i, "].");
    APO_CHECK(ConfigError, !method.name.empty(), key, "name: expected a name, found nothing");
    APO_CHECK(ConfigError, names.insert(method.name).second, key, "name: expected a name of its own, found ",
              method.name,
              method.name == "base" ? ", which is the policy before any refinement" : " once more");
    try {
      objective::check(method.objective);
    } catch (const ConfigError& error) {
      throw ConfigError(concat(key, error.what()));
    }
  }
  for (const std::string& name : options.against)
    APO_CHECK(ConfigError, names.contains(name),
              "refine.comparison.against: expected base or a method's name, found ", name);
}

std::string merge_comparisons(std::span<const std::string> directories) {
  std::vector<Comparison> loops;
  std::vector<std::string> names;
  for (const std::string& directory : directories) {
    const std::filesystem::path file = std::filesystem::path(directory) / results::kComparisonFile;
    APO_CHECK(DataError, std::filesystem::exists(file), file.string(),
              ": no such file; expected the directory of a loop with refine.comparison.methods");
    loops.push_back(Comparison::from_json(read_file(file), file.string()));
    names.push_back(file.string());
  }
  return comparison_markdown(loops, names);
}

}  // namespace apo::loop
