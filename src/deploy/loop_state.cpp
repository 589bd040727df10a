#include "deploy/loop_state.h"

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"

namespace apo::deploy {

LoopState::LoopState(const std::filesystem::path& dir) : path_(dir / "state.json") {
  if (!std::filesystem::exists(path_)) return;
  const auto json = nlohmann::json::parse(read_file(path_), nullptr, false);
  APO_CHECK(DataError, json.is_object() && json.contains("stages") && json["stages"].is_object(), path_.string(),
            ": expected the state of a refinement loop, an object with \"stages\"; found something else");
  stages_ = json["stages"];
}

nlohmann::json LoopState::run(const std::string& stage, const std::function<nlohmann::json()>& work) {
  if (finished(stage)) {
    log_info(stage, ": done before, kept");
    return stages_[stage];
  }
  log_info(stage);
  nlohmann::json result = work();
  stages_[stage] = result;
  write_file_atomic(path_, nlohmann::json{{"stages", stages_}}.dump(1));
  return result;
}

}  // namespace apo::deploy
