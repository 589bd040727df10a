// Which stages of a refinement loop are finished, on disk: what a stopped loop needs to go on.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace apo::deploy {

/// state.json of a loop: stage name -> what the stage returned.
class LoopState {
 public:
  /// Reads `dir`/state.json if there is one. DataError naming the file if it is damaged.
  explicit LoopState(const std::filesystem::path& dir);

  /// Writes the state of a loop that has not begun.
  static void create(const std::filesystem::path& dir);

  /// Time that all processes together have spent on the finished stages.
  double seconds() const { return seconds_; }
  bool finished(const std::string& stage) const { return stages_.contains(stage); }
  /// Runs `work` unless the stage is finished, remembers what it returns (on disk, at once), and returns that.
  nlohmann::json run(const std::string& stage, const std::function<nlohmann::json()>& work);

 private:
  std::filesystem::path path_;
  nlohmann::json stages_ = nlohmann::json::object();
  double seconds_ = 0;
};

}  // namespace apo::deploy
