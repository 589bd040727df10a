#include "loop/loop_state.h"

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "base/json.h"
#include "base/stopwatch.h"
#include "results/file_names.h"

namespace apo::loop {

LoopState::LoopState(const std::filesystem::path& dir)
    : path_(dir / results::kStateFile), manifest_(dir, "run.dir: " + dir.string()) {
  if (!std::filesystem::exists(path_)) return;
  const JsonFile json(path_);
  stages_ = json["stages"].raw();
  json["stages"].expect(stages_.is_object(), "an object, as in the state of a refinement loop");
  seconds_ = json["seconds"].get_or(seconds_);
}

void LoopState::create(const std::filesystem::path& dir) {
  write_file_atomic(dir / results::kStateFile,
                    nlohmann::json{{"stages", nlohmann::json::object()}, {"seconds", 0}}.dump(1));
}

nlohmann::json LoopState::run(const std::string& stage, const std::vector<std::string>& writes,
                              const std::function<nlohmann::json()>& work) {
  if (finished(stage)) {
    log_info(stage, ": done before, kept");
    return stages_[stage];
  }
  log_info(stage);
  manifest_.claim(writes);
  const Stopwatch stopwatch;
  nlohmann::json result = work();
  for (const std::string& entry : writes) manifest_.settle(entry);
  seconds_ += stopwatch.seconds();
  stages_[stage] = result;
  write_file_atomic(path_, nlohmann::json{{"stages", stages_}, {"seconds", seconds_}}.dump(1));
  return result;
}

void check_trained(const nlohmann::json& trained, const std::string& where) {
  const auto is = [&](const char* key, bool (nlohmann::json::*type)() const noexcept) {
    return trained.contains(key) && (trained[key].*type)();
  };
  const bool whole = trained.is_object() && is("checkpoint", &nlohmann::json::is_string) &&
                     is("objective", &nlohmann::json::is_string) &&
                     is("directory", &nlohmann::json::is_string) && is("steps", &nlohmann::json::is_number) &&
                     is("seconds", &nlohmann::json::is_number);
  APO_CHECK(DataError, whole, where,
            ": expected what a training of the loop came to: checkpoint, objective, directory, "
            "steps and seconds; found something else");
}

void LoopState::clear(const std::string& directory) {
  manifest_.remove({directory});
  manifest_.claim({directory + "/"});
}

}  // namespace apo::loop
