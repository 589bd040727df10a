#include "apo/audit/validate.h"

#include <torch/types.h>

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "audit/checks.h"
#include "audit/policy_checks.h"
#include "data/layouts.h"

namespace apo::audit {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kMostErrors = 20;  // named one by one
constexpr std::string_view kPolicyQuestion =
    "actions, gripper, pictures and words are like those that the checkpoint learned from";

std::string_view verdict(const CheckResult& check) {
  std::string_view worst = "ok";
  Severity severity = Severity::note;
  for (const Finding& finding : check.findings)
    if (finding.severity > severity || worst == "ok") {
      severity = std::max(severity, finding.severity);
      worst = to_string(severity);
    }
  return worst;
}

class Policy : public Check {
 public:
  Policy(const PolicyInputs& inputs, DataChecks checks)
      : Check("policy", std::string(kPolicyQuestion)), comparison_(inputs), checks_(checks) {}
  void see(const ScannedEpisode& e) override { comparison_.see(e.record, e.steps, e.in.is_expert, place(e)); }
  void finish() override {
    for (const Finding& finding : comparison_.findings())
      find(checks_ == DataChecks::warn ? std::min(finding.severity, Severity::warning) : finding.severity,
           finding.message);
  }

 private:
  PolicyComparison comparison_;
  DataChecks checks_;
};

std::string plural(int64_t n, const std::string& what) { return concat(n, ' ', what, n == 1 ? "" : "s"); }

}  // namespace

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    case Severity::error:
      return "error";
  }
  return "unknown";
}

int64_t Validation::count(Severity severity) const {
  int64_t n = 0;
  for (const CheckResult& check : checks)
    n += std::count_if(check.findings.begin(), check.findings.end(),
                       [severity](const Finding& finding) { return finding.severity == severity; });
  return n;
}

bool is_seen(const std::string& camera, const PolicyInputs& inputs) {
  return is_wanted(camera, inputs.cameras);
}

std::string place(const ScannedEpisode& episode) {
  return concat(episode.in.file.path().filename().string(), ' ', episode.record.name);
}

std::string place(const ScannedEpisode& episode, size_t timestep) {
  return concat(place(episode), " timestep ", timestep);
}

std::string share(int64_t part, int64_t whole, const char* what) {
  std::ostringstream out;
  out << part << " of " << whole << ' ' << what;
  if (whole > 0)
    out << " (" << std::fixed << std::setprecision(1)
        << 100.0 * static_cast<double>(part) / static_cast<double>(whole) << " %)";
  return out.str();
}

Validation validate(const DataOptions& given, bool pools_needed, const PolicyInputs& inputs) {
  DataOptions options = given;
  options.policy_gripper = inputs.gripper;
  APO_CHECK(ConfigError, !options.expert.empty() || !options.interactions.empty(),
            "no data to validate: give files, or a config with data.expert or data.interactions");
  Validation result;
  CheckResult readable{"readable", "every file and episode can be read", {}};
  Checks checks;
  add_file_checks(options, inputs, checks);
  add_hash_checks(inputs, checks);
  add_action_checks(options, checks);
  if (inputs.action) checks.push_back(std::make_unique<Policy>(inputs, options.checks));
  add_label_checks(options, pools_needed, checks);
  int64_t unreadable = 0;
  const auto on_file = [&](const ScannedFile& file) {
    ++result.num_files;
    if (file.num_episodes == 0)
      readable.findings.push_back(
          {Severity::warning, concat(file.file.path().string(), ": holds no episodes")});
    const std::vector<std::string> left_out = file.file.left_out();
    for (size_t i = 0; i < left_out.size() && i < kMostErrors; ++i)
      readable.findings.push_back(
          {Severity::warning, concat(file.file.path().string(), ": left out: ", left_out[i])});
    if (left_out.size() > kMostErrors)
      readable.findings.push_back(
          {Severity::warning, concat("and ", left_out.size() - kMostErrors, " more left out")});
    for (const auto& check : checks) check->see_file(file);
  };
  const auto on_episode = [&](const ScannedEpisode& episode) {
    ++result.num_episodes;
    result.num_steps += episode.record.num_steps();
    for (const auto& check : checks) check->see(episode);
  };
  const auto on_error = [&](const std::string& message) {
    if (++unreadable <= static_cast<int64_t>(kMostErrors))
      readable.findings.push_back({Severity::error, message});
  };
  scan(options, {on_file, on_episode, on_error});
  if (unreadable > static_cast<int64_t>(kMostErrors))
    readable.findings.push_back(
        {Severity::error,
         concat("and ", unreadable - static_cast<int64_t>(kMostErrors), " more that cannot be read")});
  if (result.num_episodes == 0 && unreadable == 0)
    readable.findings.push_back({Severity::error, "no episode was found: there is nothing to learn from"});
  result.checks.push_back(std::move(readable));
  if (!inputs.unreadable.empty())
    result.checks.push_back(
        {"policy",
         std::string(kPolicyQuestion),
         {{Severity::warning, "not compared, the checkpoint cannot be read: " + inputs.unreadable}}});
  for (const auto& check : checks) {
    check->finish();
    // a question is not answered by files without episodes
    if (result.num_episodes > 0 || !check->result().findings.empty())
      result.checks.push_back(check->result());
  }
  return result;
}

std::string to_text(const Validation& validation) {
  std::ostringstream out;
  out << plural(validation.num_files, "file") << ", " << plural(validation.num_episodes, "episode") << ", "
      << plural(validation.num_steps, "step") << "\n\n";
  for (const CheckResult& check : validation.checks) {
    out << std::left << std::setw(9) << verdict(check) << std::setw(14) << check.name << check.question
        << '\n';
    for (const Finding& finding : check.findings)
      out << std::string(9, ' ') << std::setw(14) << to_string(finding.severity) << printable(finding.message)
          << '\n';
  }
  const int64_t errors = validation.count(Severity::error), warnings = validation.count(Severity::warning);
  out << "\nverdict: "
      << (errors     ? "not fit for training"
          : warnings ? "usable, look at the warnings"
                     : "good")
      << " (" << plural(errors, "error") << ", " << plural(warnings, "warning") << ")\n";
  return out.str();
}

std::string to_json(const Validation& validation) {
  const int64_t errors = validation.count(Severity::error), warnings = validation.count(Severity::warning);
  Json json{{"verdict", errors     ? "error"
                        : warnings ? "warning"
                                   : "ok"},
            {"errors", errors},
            {"warnings", warnings},
            {"files", validation.num_files},
            {"episodes", validation.num_episodes},
            {"steps", validation.num_steps},
            {"checks", Json::array()}};
  for (const CheckResult& check : validation.checks) {
    Json entry{{"name", check.name},
               {"question", check.question},
               {"verdict", verdict(check)},
               {"findings", Json::array()}};
    for (const Finding& finding : check.findings)
      entry["findings"].push_back({{"severity", to_string(finding.severity)}, {"message", finding.message}});
    json["checks"].push_back(entry);
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace apo::audit
