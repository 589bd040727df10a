// Which stages of a refinement loop are finished, on disk: what a stopped loop needs to go on.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/manifest.h"

namespace apo::loop {

/// state.json of a loop: stage name -> what the stage returned. What the stages write is entered in the
/// manifest.
class LoopState {
 public:
  /// Reads `dir`/state.json if there is one. DataError naming the file if it is damaged.
  explicit LoopState(const std::filesystem::path& dir);

  /// Writes the state of a loop that has not begun.
  static void create(const std::filesystem::path& dir);

  /// Time that all processes together have spent on the finished stages.
  double seconds() const { return seconds_; }
  bool finished(const std::string& stage) const { return stages_.contains(stage); }
  /// Runs `work` unless the stage is finished, remembers what it returns (on disk, at once), and returns
  /// that. `writes`: what it writes, as Manifest::claim has it. ConfigError if something else lies there.
  nlohmann::json run(const std::string& stage, const std::vector<std::string>& writes,
                     const std::function<nlohmann::json()>& work);
  /// Removes what an interrupted attempt of a stage wrote into this directory.
  void clear(const std::string& directory);

 private:
  std::filesystem::path path_;
  Manifest manifest_;
  nlohmann::json stages_ = nlohmann::json::object();
  double seconds_ = 0;
};

/// DataError, which begins with `where`, unless `trained` is what a stage of training returns: a damaged
/// state.json.
void check_trained(const nlohmann::json& trained, const std::string& where);

}  // namespace apo::loop
