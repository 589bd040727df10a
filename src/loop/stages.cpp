#include "loop/stages.h"

#include <torch/types.h>

#include "apo/base/device.h"
#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/provenance.h"
#include "apo/models/registry.h"
#include "apo/training/policy_data.h"
#include "base/paths.h"
#include "results/collection_json.h"
#include "results/file_names.h"
#include "training/checkpoint.h"

namespace apo::loop {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using training::ExistingRun;

std::string objective_name(const training::TrainingOptions& options) {
  for (const auto& [value, name] : enum_names(options.objective.type))
    if (value == options.objective.type) return std::string(name);
  return "";
}

// What collecting into `output` writes, named as from `dir`.
std::vector<std::string> files_of_recording(const fs::path& output, const fs::path& dir) {
  const std::string name = output.lexically_relative(dir).string();
  return {name, name + ".json", name + ".journal", name + ".journal.new"};
}

// Without any pool left, training says what is missing.
void leave_out_empty_pools(const data::Dataset& dataset, training::TrainingOptions& options,
                           const std::string& stage) {
  const auto leave_out = [&](double& share, data::Pool pool, const char* name) {
    if (share <= 0 || !dataset.pool(pool).empty()) return;
    log_warn(stage, ": no ", name, " step in the recordings of this loop: trained without data.pools.", name,
             " (", share, ")");
    share = 0;
  };
  data::PoolOptions& pools = options.data.pools;
  if (pools.desirable <= 0 || options.objective.type == objective::ObjectiveType::tpo) return;
  leave_out(pools.intervention, data::Pool::intervention, "intervention");
  leave_out(pools.undesirable, data::Pool::undesirable, "undesirable");
}

}  // namespace

int64_t deployment_seed(int64_t seed, int64_t round) { return 1'000'000 + 100'000 * seed + 20'000 * round; }

Stages::Stages(const RefineSetup& setup)
    : setup_(setup),
      dir_(setup.training.run.dir),
      device_(select_device(setup.training.run.device)),
      gripper_(environments::make_environment(setup.environment)->spec().gripper),
      state_(dir_) {
  // also for deployments and evaluations: idle threads of the tensor library burn time where cores are scarce
  training::set_up_arithmetic(setup.training.run);
}

std::string Stages::relative(const fs::path& path) const { return fs::relative(path, dir_).string(); }

std::string Stages::checkpoint_of(const json& trained) const {
  const fs::path stored = trained["checkpoint"].get<std::string>();  // once an absolute path
  return (dir_ / trained["directory"].get<std::string>() / "checkpoints" / stored.filename()).string();
}

std::unique_ptr<models::Policy> Stages::load(const std::string& checkpoint) const {
  models::PolicyOptions options = setup_.training.policy;
  options.checkpoint = checkpoint;
  // an adapter of the config belongs to the config's own checkpoint: ours hold what they need
  if (checkpoint != setup_.training.policy.checkpoint) options.adapter.clear();
  return models::make_policy(options, nullptr, setup_.training.run.seed, device_);
}

void Stages::demonstrate() {
  expert_ = setup_.training.data.expert;
  if (!expert_.empty()) return;
  const fs::path output = dir_ / "demonstrations.hdf5";
  state_.run("demonstrations", files_of_recording(output, dir_), [&]() -> json {
    DemonstrationOptions options = setup_.deploy.demonstrations;
    options.existing = deploy::ExistingFile::overwrite;
    return results::to_json<json>(deploy::collect_demonstrations(setup_.environment, options, output));
  });
  data::SourceOptions source;
  source.path = output.string();
  source.gripper = gripper_;
  expert_.push_back(source);
}

Stages::Base Stages::base() {
  const fs::path dir = dir_ / "base";
  Base base;
  base.checkpoint = setup_.training.policy.checkpoint;
  if (base.checkpoint.empty()) {
    base.trained = state_.run("base/training", {"base/training/"},
                              [&] { return train(base_training(setup_), dir / "training"); });
    check_trained(base.trained, (dir_ / results::kStateFile).string() + ": base/training");
    base.checkpoint = checkpoint_of(base.trained);
  }
  base.evaluation = evaluate("base", base.checkpoint, dir / "evaluation");
  return base;
}

training::TrainingOptions base_training(const RefineSetup& setup) {
  const BaseOptions& base = setup.refine.base;
  training::TrainingOptions options = setup.training;
  options.objective = base.objective;
  options.optimizer = base.optimizer;
  options.schedule = base.schedule;
  options.train = base.train;
  options.data.augmentation = base.augmentation;
  options.data.interactions.clear();
  options.data.pools = {.desirable = 1, .intervention = 0, .undesirable = 0};
  options.policy.lora.rank = 0;
  options.policy.adapter.clear();
  return options;
}

json Stages::train(training::TrainingOptions options, const fs::path& dir) {
  options.run.dir = dir.string();
  options.data.expert = expert_;
  // not by checkpoints/latest: copies that leave out links keep the checkpoints
  const bool begun = training::newest_checkpoint(dir).has_value();
  if (!begun) state_.clear(dir.lexically_relative(dir_).string());
  const auto trained = training::train(options, begun ? ExistingRun::resume : ExistingRun::overwrite);
  return {{"checkpoint", relative(trained.checkpoint)},
          {"objective", objective_name(options)},
          {"directory", relative(dir)},
          {"steps", trained.steps},
          {"seconds", trained.seconds}};
}

CollectionSummary Stages::deploy(const std::string& stage, const std::string& checkpoint,
                                 const InterventionOptions& intervention, const CollectOptions& given,
                                 const fs::path& output) {
  std::vector<std::string> writes = files_of_recording(output, dir_);
  writes.push_back((output.parent_path() / output.stem()).lexically_relative(dir_).string() +
                   "-correction-*");
  const json deployed = state_.run(stage, writes, [&]() -> json {
    make_directory(output.parent_path());
    const auto policy = load(checkpoint);
    const auto environment = environments::make_environment(setup_.environment);
    const auto human = deploy::make_intervention_source(intervention);
    CollectOptions options = given;
    options.existing = deploy::ExistingFile::overwrite;
    return results::to_json<json>(deploy::collect(*environment, *policy, *human, options, output));
  });
  return results::read_collection({&deployed, (dir_ / results::kStateFile).string(), stage});
}

json Stages::refine(const std::string& stage, training::TrainingOptions options,
                    const std::string& checkpoint, const std::vector<std::string>& recordings,
                    const fs::path& dir) {
  json result = state_.run(stage, {dir.lexically_relative(dir_).string() + "/"}, [&] {
    options.policy.checkpoint = checkpoint;
    if (checkpoint != setup_.training.policy.checkpoint) options.policy.adapter.clear();
    options.data.expert = expert_;
    for (const std::string& file : recordings) {
      data::SourceOptions source;
      source.path = file;
      source.gripper = gripper_;
      options.data.interactions.push_back(source);
    }
    const auto labels = [&] {
      data::DataOptions labeled = options.data;
      labeled.policy_gripper = training::policy_inputs(options.policy).gripper;
      const data::Dataset dataset(labeled);
      leave_out_empty_pools(dataset, options, stage);
      return dataset.counts();
    }();
    json trained = train(options, dir);
    trained["labels"] = labels;
    return trained;
  });
  check_trained(result, (dir_ / results::kStateFile).string() + ": " + stage);
  return result;
}

void Stages::link_policy(const std::string& checkpoint) const {
  replace_link(dir_ / "policy", relative(checkpoint));
}

EvalResult Stages::evaluate(const std::string& stage, const std::string& checkpoint, const fs::path& dir) {
  state_.run(stage + "/evaluation", {dir.lexically_relative(dir_).string() + "/"}, [&]() -> json {
    const auto policy = load(checkpoint);
    const EvalResult result = deploy::evaluate(*policy, setup_.environment, setup_.eval);
    // a full disk loses no number
    log_info(stage, ": success ", result.success.count, "/", result.success.total);
    deploy::write_results(result, setup_.environment, setup_.eval, dir);
    return {{"success_rate", result.success.rate}};
  });
  const fs::path file = dir / results::kResultsFile;
  return EvalResult::from_json(read_file(file), file.string());
}

results::Summary Stages::summary(const std::string& config_yaml) const {
  results::Summary summary;
  summary.command = provenance().command;
  summary.config = config_yaml;
  summary.environment = setup_.environment.type;
  summary.provenance = provenance();
  summary.seed = setup_.training.run.seed;
  summary.seconds = state_.seconds();
  return summary;
}

results::PolicySummary Stages::policy_summary(const std::string& policy, const json& trained,
                                              const EvalResult& evaluation) const {
  results::PolicySummary summary;
  summary.policy = relative(policy);
  if (!trained.is_null()) {
    summary.objective = trained["objective"].get<std::string>();
    summary.training = trained["directory"].get<std::string>();
    summary.train_seconds = trained["seconds"].get<double>();
    summary.labels =
        JsonField(&trained, (dir_ / results::kStateFile).string() + ": " + summary.training)["labels"]
            .counts();
  }
  summary.evaluation = results::summary_of(evaluation);
  return summary;
}

}  // namespace apo::loop
