// "Refine now": apo-train on what was recorded, as a program of its own beside the server, and what a page is
// told of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "apo/serving/options.h"

namespace apo::serving {

/// The curves that a page draws, from the metrics.jsonl of a run that may still be writing it.
class Curves {
 public:
  explicit Curves(std::filesystem::path metrics) : path_(std::move(metrics)) {}
  /// Reads what was added. Lines that are no JSON are passed over.
  void read_on();
  int64_t step() const { return step_; }
  /// {"loss": [[step, value], ..], ..}: at most some hundred points each, without what was never a number.
  nlohmann::ordered_json json() const;

 private:
  std::filesystem::path path_;
  int64_t read_ = 0, step_ = 0;
  std::map<std::string, std::vector<std::pair<int64_t, double>>> points_;
};

/// One training at a time. Thread-safe. The training goes on with what lay in the recording when it began: a
/// copy in its own directory (`plan.directory`/N/interactions.hdf5, beside the run "training" and its
/// log.txt).
class Refinement {
 public:
  using Json = nlohmann::ordered_json;
  /// Copies the recording to a path; throws where it cannot.
  using Copy = std::function<void(const std::filesystem::path&)>;
  /// A message for every page: {type: refine, state: idle | running | done | failed, text, step, of, curves}.
  using Tell = std::function<void(const Json&)>;

  Refinement(RefinePlan plan, Copy copy, Tell tell);
  /// Asks a training that runs to save and end, and waits for it.
  ~Refinement();
  Refinement(const Refinement&) = delete;
  Refinement& operator=(const Refinement&) = delete;

  /// Begins, unless one runs.
  void start();
  /// Until the one that runs has ended, or a signal arrives.
  void wait();
  Json message() const;

 private:
  void run();
  void set(const std::string& state, const std::string& text);
  int wait_for(int64_t pid, Curves& curves);

  const RefinePlan plan_;
  const Copy copy_;
  const Tell tell_;
  mutable std::mutex mutex_;
  std::string state_ = "idle", text_;
  int64_t step_ = 0;
  Json curves_ = Json::object();
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace apo::serving
