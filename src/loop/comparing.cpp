#include "loop/comparing.h"

#include <cctype>
#include <map>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "loop/stages.h"
#include "results/file_names.h"

namespace apo::loop {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// "apo + anchor" -> "2-apo-anchor": a directory's name; the method's number keeps them apart.
std::string directory_name(size_t number, const std::string& name) {
  std::string slug = concat(number);
  bool dash = true;
  for (const char c : name) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (plain && dash) slug += '-';
    dash = !plain;
    if (plain) slug += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return slug;
}

// Where one method stands.
struct Standing {
  std::string checkpoint;
  std::vector<std::string> recordings;
};

class Comparing {
 public:
  Comparing(const RefineSetup& setup, std::string config_yaml)
      : setup_(setup),
        options_(setup.refine.comparison),
        config_yaml_(std::move(config_yaml)),
        stages_(setup) {}

  RefineResult run() {
    stages_.demonstrate();
    base_ = stages_.base();
    result_.policy = base_.checkpoint;
    stages_.link_policy(base_.checkpoint);
    result_.comparison.seed = setup_.training.run.seed;
    result_.comparison.eval_seed = setup_.eval.seed;
    result_.comparison.take_overs = options_.take_overs;
    result_.comparison.against = options_.against;
    result_.rounds.push_back({.round = 0,
                              .policy = base_.checkpoint,
                              .promotion = {},
                              .evaluation = base_.evaluation,
                              .deployment = {}});
    write();
    first_deployment();
    for (int64_t round = 1; round <= setup_.refine.rounds; ++round) add_round(round);
    return std::move(result_);
  }

 private:
  // The corrections that every method learns from.
  void first_deployment() {
    const fs::path recording = stages_.dir() / "round-1" / "interactions.hdf5";
    const DeployOptions deploying = setup_of_round(setup_, 1).deploy;
    CollectOptions collecting = deploying.collect;
    collecting.seed += deployment_seed(setup_.training.run.seed, 1);
    corrections_ =
        stages_.deploy("round-1/deployment", base_.checkpoint, deploying.intervention, collecting, recording);
    for (const MethodOptions& method : options_.methods)
      standings_[method.name] = {base_.checkpoint, {recording.string()}};
  }

  // Every policy's deployment after a round has the same seeds. It is the next round's.
  CollectionSummary next_deployment(const std::string& stage, const std::string& checkpoint, int64_t round,
                                    const fs::path& recording) {
    const DeployOptions deploying = setup_of_round(setup_, round + 1).deploy;
    CollectOptions collecting = deploying.collect;
    collecting.seed += deployment_seed(setup_.training.run.seed, round + 1);
    collecting.take_overs = options_.take_overs;
    collecting.episodes = options_.episodes;
    return stages_.deploy(stage, checkpoint, deploying.intervention, collecting, recording);
  }

  void add_round(int64_t round) {
    const training::TrainingOptions training = setup_of_round(setup_, round).training;
    const CollectionSummary of_base =
        next_deployment(concat("base/deployment-", round), base_.checkpoint, round,
                        stages_.dir() / "base" / concat("deployment-", round, ".hdf5"));
    add("base", round, base_.trained, base_.checkpoint, base_.evaluation, of_base);
    for (size_t i = 0; i < options_.methods.size(); ++i) {
      const MethodOptions& method = options_.methods[i];
      Standing& standing = standings_.at(method.name);
      const std::string stage = concat("methods/", directory_name(i + 1, method.name), "/round-", round);
      const fs::path dir = stages_.dir() / stage;
      log_info("round ", round, ": ", method.name);
      const json trained = stages_.refine(
          stage + "/training", training_of(method, training), standing.checkpoint,
          method.interactions ? standing.recordings : std::vector<std::string>(), dir / "training");
      standing.checkpoint = stages_.checkpoint_of(trained);
      const EvalResult evaluation = stages_.evaluate(stage, standing.checkpoint, dir / "evaluation");
      const fs::path recording = dir / "deployment.hdf5";
      const CollectionSummary deployed =
          next_deployment(stage + "/deployment", standing.checkpoint, round, recording);
      if (!setup_.refine.keep_interactions) standing.recordings.clear();
      standing.recordings.push_back(recording.string());
      add(method.name, round, trained, standing.checkpoint, evaluation, deployed);
    }
  }

  void add(const std::string& name, int64_t round, const json& trained, const std::string& checkpoint,
           const EvalResult& evaluation, const CollectionSummary& deployed) {
    MethodResult result;
    result.method = name;
    result.round = round;
    result.policy = stages_.relative(checkpoint);
    if (!trained.is_null()) {
      result.objective = trained["objective"].get<std::string>();
      result.steps = trained["steps"].get<int64_t>();
      result.train_seconds = trained["seconds"].get<double>();
    }
    for (const Trial& trial : evaluation.trials) {
      result.success.push_back(trial.success);
      result.unaided.push_back(trial.unaided);
    }
    result.take_overs = deployed.take_overs_by_episode;
    result.lost = deployed.lost;
    const auto human = deployed.steps.find(std::string(to_string(ActionSource::intervention)));
    result.human_steps = human == deployed.steps.end() ? 0 : human->second;
    results::Method method{stages_.policy_summary(checkpoint, name == "base" ? json() : trained, evaluation)};
    method.name = name;
    method.round = round;
    method.objective = result.objective;
    method.deployment = deployed;
    methods_.push_back(std::move(method));
    result_.comparison.results.push_back(std::move(result));
    write();
  }

  // The paired tests of comparison.md, for the report, of the result at `i`.
  std::vector<results::PairedDifference> tests_of(size_t i) const {
    const std::vector<MethodResult>& results = result_.comparison.results;
    const MethodResult& mine = results[i];
    std::vector<results::PairedDifference> tests;
    for (const std::string& name : options_.against)
      for (const MethodResult& other : results) {
        if (other.method != name || other.round != mine.round || name == mine.method) continue;
        const auto add = [&](const std::string& of, const PairedTest& test) {
          tests.push_back({name, of, test});
        };
        add("success", paired_test(mine.success, other.success));
        add("take-overs", paired_test(corrected(mine), corrected(other)));
        const std::string reason = commonest_reason(mine.round);
        if (!reason.empty())
          add(reason, paired_test(corrected_for(mine, reason), corrected_for(other, reason)));
      }
    return tests;
  }

  // Why the base was taken over most often.
  std::string commonest_reason(int64_t round) const {
    std::map<std::string, int64_t> counts;
    for (const MethodResult& result : result_.comparison.results)
      if (result.method == "base" && result.round == round)
        for (const auto& reasons : result.take_overs)
          for (const std::string& reason : reasons) ++counts[reason];
    std::string commonest;
    for (const auto& [reason, count] : counts)
      if (commonest.empty() || count > counts[commonest]) commonest = reason;
    return commonest;
  }

  void write() const {
    results::Summary summary = stages_.summary(config_yaml_);
    summary.rounds.emplace_back(stages_.policy_summary(base_.checkpoint, base_.trained, base_.evaluation));
    summary.methods = methods_;
    for (size_t i = 0; i < methods_.size(); ++i) summary.methods[i].against = tests_of(i);
    summary.corrections = corrections_;
    write_file_atomic(stages_.dir() / results::kSummaryFile, summary.json());
    if (result_.comparison.results.empty()) return;
    write_file_atomic(stages_.dir() / results::kComparisonFile, result_.comparison.json());
    const std::string name = (stages_.dir() / results::kComparisonFile).string();
    write_file_atomic(stages_.dir() / "comparison.md",
                      comparison_markdown({&result_.comparison, 1}, {&name, 1}));
  }

  const RefineSetup& setup_;
  const ComparisonOptions& options_;
  std::string config_yaml_;
  Stages stages_;
  Stages::Base base_;
  std::map<std::string, Standing> standings_;  // by method
  std::vector<results::Method> methods_;
  std::optional<CollectionSummary> corrections_;
  RefineResult result_;
};

}  // namespace

training::TrainingOptions training_of(const MethodOptions& method,
                                      const training::TrainingOptions& top_level) {
  training::TrainingOptions options = top_level;
  options.objective = method.objective;
  options.data.pools = method.pools;
  if (!method.interactions) options.data.interactions.clear();
  options.optimizer.learning_rate = method.learning_rate.value_or(options.optimizer.learning_rate);
  options.train.batch_size = method.batch_size.value_or(options.train.batch_size);
  return options;
}

RefineResult compare(const RefineSetup& setup, const std::string& config_yaml) {
  return Comparing(setup, config_yaml).run();
}

}  // namespace apo::loop
