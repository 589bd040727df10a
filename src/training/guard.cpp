#include "training/guard.h"

#include <torch/types.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/objective/weights.h"
#include "base/json.h"
#include "models/checkpoints/checkpoint_files.h"
#include "training/checkpoint.h"

namespace apo::training {
namespace {

constexpr double kPreferredNats = -1, kPreferredNatsAToken = -0.15, kRejectedNatsAToken = -4;
constexpr double kMostClamped = 0.5;
constexpr double kLargestBalance = 2;
constexpr size_t kQuarters = 4;

double value_of(const Metrics& metrics, std::string_view name) {
  for (const auto& [key, value] : metrics)
    if (key == name) return value;
  return kAbsent;
}

// The newest whole checkpoint of at most this step.
std::string checkpoint_before(const TrainingOptions& options, int64_t step) {
  for (const std::filesystem::path& path : whole_checkpoints(options.run.dir))
    if (models::step_of(path) <= step) return "The last whole checkpoint before that is " + path.string();
  return concat("No checkpoint was written before that",
                options.policy.checkpoint.empty() ? "" : "; the run began from " + options.policy.checkpoint);
}

std::string rounded(double value) {
  std::ostringstream out;
  out.precision(2);
  out << value;
  return out.str();
}

}  // namespace

void Guard::Series::add(double value) {
  if (std::isnan(value)) return;
  if (full()) last.pop_front();
  last.push_back(value);
}

double Guard::Series::mean() const {
  return std::accumulate(last.begin(), last.end(), 0.0) / static_cast<double>(last.size());
}

bool Guard::Series::falls() const {
  constexpr auto kLength = static_cast<std::ptrdiff_t>(kWindow / kQuarters);
  double before = std::numeric_limits<double>::infinity();
  for (auto begin = last.begin(); begin != last.end(); begin += kLength) {
    const double sum = std::accumulate(begin, begin + kLength, 0.0);
    if (!(sum < before)) return false;
    before = sum;
  }
  return true;
}

std::string Guard::preferred() const {
  const double mean = desirable_.mean();
  const bool held = options_.anchor() > 0 || options_.hold() > 0;
  const bool fallen = !held && mean < kPreferredNats;
  if (!fallen && !(mean < kPreferredNatsAToken * tokens_ && desirable_.falls())) return "";
  return concat(
      "the desirable actions become unlikely: their log-probability is ", rounded(-mean),
      " nats below the reference's on average over ", kWindow, " steps",
      held ? concat("; set ", firmer(), ", a lower optimizer.learning_rate, or more of data.pools.desirable")
           : concat(", and nothing holds it; set ", firmer(), ", or a lower optimizer.learning_rate"));
}

// What holds the policy, or holds it more firmly.
std::string Guard::firmer() const {
  if (!can_hold_ || options_.needs_pairs() || options_.released_code())
    return options_.anchor() > 0 ? concat("a larger objective.sft_weight than ", options_.anchor())
                                 : "objective.sft_weight: 1";
  if (options_.hold() > 0) return concat("a larger objective.reference_kl_weight than ", options_.hold());
  objective::ObjectiveOptions robust;
  robust.preset = objective::Preset::robust;
  return concat(options_.uses_z0() && options_.anchor() == 0 ? "objective.preset: robust or " : "",
                "objective.reference_kl_weight: ", robust.hold());
}

std::string Guard::rejected() const {
  const double mean = undesirable_.mean();
  if (!(mean < kRejectedNatsAToken * tokens_)) return "";
  return concat("the undesirable actions are pushed down without end: their log-probability is ",
                rounded(-mean), " nats below the reference's on average over ", kWindow, " steps, more than ",
                rounded(-kRejectedNatsAToken), " a token, and takes others' along; set ", firmer(),
                ", a larger objective.beta, a lower optimizer.learning_rate, or fewer steps");
}

std::string Guard::clamped() const {
  if (!(at_clamp_.mean() > kMostClamped)) return "";
  return concat("z0 is at its lower clamp, objective.kl_min: ", options_.kl_min, ", in more than half of ",
                kWindow, " steps: the policy moves away from all recorded actions; set ", firmer(),
                ", a lower optimizer.learning_rate, or objective.z0: exact");
}

std::vector<std::string> Guard::add(const Metrics& metrics) {
  desirable_.add(value_of(metrics, "reward_desirable"));
  undesirable_.add(value_of(metrics, "reward_undesirable"));
  // at a clamp of 0, and kto's always is, the noise of the estimate alone is below it in half of the steps
  const double z0 = value_of(metrics, "z0"), clamped_now = value_of(metrics, "z0_clamped");
  if (options_.type == objective::ObjectiveType::apo && options_.kl_min < 0 && !std::isnan(z0))
    at_clamp_.add(clamped_now > 0 && z0 <= options_.kl_min ? 1 : 0);
  std::vector<std::string> signs;
  const auto tell = [&signs](Series& series, const std::string& sign) {
    if (sign.empty()) return;
    series.told = true;
    signs.push_back(sign);
  };
  if (desirable_.full() && !desirable_.told) tell(desirable_, preferred());
  if (undesirable_.full() && !undesirable_.told) tell(undesirable_, rejected());
  if (at_clamp_.full() && !at_clamp_.told) tell(at_clamp_, clamped());
  return signs;
}

void Guard::replay(const std::filesystem::path& metrics_file) {
  std::ifstream file(metrics_file);
  for (std::string line; std::getline(file, line);) {
    const auto json = parse_if_json(line, metrics_file.string());
    if (!json || !json->is_object()) continue;
    Metrics metrics;
    for (const auto& [name, value] : json->items())
      if (value.is_number()) metrics.emplace_back(name, value.get<double>());
    add(metrics);
  }
}

std::optional<Guard> make_guard(const TrainingOptions& options, const models::Policy& policy) {
  if (options.train.guard == "off" || options.objective.imitates()) return {};
  return Guard(options.objective, static_cast<double>(policy.codec().max_length()),
               options.reference.keeps_policy());
}

std::string watch(std::optional<Guard>& guard, const Metrics& metrics, const TrainingOptions& options) {
  if (!guard) return "";
  const auto step = static_cast<int64_t>(value_of(metrics, "step"));
  std::string alarm;
  for (const std::string& sign : guard->add(metrics)) {
    const std::string text = concat("step ", step, ": ", sign, ". ",
                                    checkpoint_before(options, step - static_cast<int64_t>(Guard::kWindow)));
    if (options.train.guard == "stop")
      append_item(alarm, "; ", text);
    else
      log_warn(text);
  }
  return alarm;
}

std::string balance_text(const objective::ObjectiveOptions& options, const std::array<int64_t, 3>& counts) {
  const int64_t desirable = counts[0] + counts[1], undesirable = counts[2];
  const double balance = objective::expected_balance(options, desirable, undesirable);
  if (std::isnan(balance)) return "";
  std::ostringstream out;
  out.precision(3);
  out << "the undesirable samples weigh " << balance
      << " times the desirable ones (sum of lambda_U : lambda_D, to be expected of " << undesirable << " and "
      << desirable << " in a batch); anchor " << options.anchor() << ", hold " << options.hold();
  return out.str();
}

void warn_of_balance(const objective::ObjectiveOptions& options, const std::array<int64_t, 3>& counts) {
  if (options.uses_z0() && options.preset == objective::Preset::paper &&
      options.anchor() + options.hold() > 0)
    log_warn("objective.preset: paper is the loss without an anchor, but the config also says sft_weight ",
             options.anchor(), " and reference_kl_weight ", options.hold(),
             ", which hold; an objective of its own, --set 'objective={type: ..., preset: paper}', has "
             "neither, nor the config's other keys of it");
  const double balance = objective::expected_balance(options, counts[0] + counts[1], counts[2]);
  if (!(balance > kLargestBalance) || options.anchor() > 0 || options.hold() > 0) return;
  log_warn("objective: ", balance_text(options, counts),
           ": nothing holds what the policy can do already; set objective.sft_weight: 1 (objective.preset: "
           "robust has it, too). objective.weights.group_size: 8 (the authors' balance), larger "
           "objective.weights.eta_desirable and eta_undesirable, and a smaller data.pools.undesirable lower "
           "the first number");
}

}  // namespace apo::training
