// The console on the network: its files, its pages' sockets, and the pictures that they show.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "serving/console_desk.h"
#include "serving/network.h"
#include "serving/refinement.h"
#include "serving/worker.h"

namespace apo::serving {

/// What a page learns of the robot beside what happens.
struct ConsoleContract {
  int64_t action_size = 0;
  double control_hz = 10;
  std::vector<int64_t> grippers;
  config::GripperOptions gripper;  ///< how its command is coded, where that is known
  std::vector<std::string> cameras;
  std::vector<int64_t> reversed;  ///< numbers whose keys are exchanged
  double speed = 0.5;             ///< share of full deflection
  bool token_needed = false;
  bool can_reset = false, can_replay = false, can_mark = true, can_instruct = false, can_refine = false;
  std::string recording;  ///< where replayed episodes are read from; empty: none
  /// The JSON that the page has as #console-contract.
  std::string json() const;
};

/// A Watcher whose person sits at a page. Made, spoken with and destroyed by the thread of `io`; watched from
/// another.
class Console final : public Pages, public Watcher {
 public:
  Console(net::io_context& io, ConsoleContract contract, DeskOptions options, ConsoleDesk::End end);
  ~Console() override;

  bool owns(std::string_view path) const override;
  HttpResponse get(const HttpRequest& request) override;
  net::awaitable<void> speak(WebSocket socket, HttpRequest upgrade, std::string address) override;
  void tick() override;
  void stop() override;

  /// "Refine now" does what `plan` says, with what `copy` takes of the recording. Before pages come.
  void refine_by(RefinePlan plan, Refinement::Copy copy);
  void begin_at(int64_t episode) { desk_.begin_at(episode); }
  void ask_how_it_ended() { desk_.ask_how_it_ended(); }
  bool is_paused() const { return desk_.is_paused(); }
  bool has_corrections() const { return desk_.has_corrections(); }
  /// Until no training runs, or a signal arrives.
  void wait_for_training() {
    if (refinement_) refinement_->wait();
  }
  /// Asks a training that runs to save and end. Before what `copy` reads is gone.
  void stop_training() { refinement_.reset(); }

  std::optional<Override> decide(const ServedMoment& moment) override;
  void happened(const std::string& episode, const Step& what) override;
  void ended(const std::string& episode, std::optional<bool> success, const std::string& outcome,
             std::optional<int64_t> recording) override;
  void joined(int64_t recording, const std::string& name) override { desk_.joined(recording, name); }
  std::string instruction_for(const std::string& episode) override { return desk_.instruction_for(episode); }
  /// Whether a page is open.
  bool is_watched() const { return num_viewers_ > 0; }
  bool wants_confidence() const override { return is_watched(); }

 private:
  class Socket;
  void say(int64_t viewer, std::string text);
  void post(int64_t viewer, const ConsoleDesk::Json& message);
  void show(const std::string& camera, const std::string& bytes);
  void replay(int64_t viewer, const ConsoleDesk::Json& message);
  void hear(int64_t viewer, const std::string& text);

  net::io_context& io_;
  const ConsoleContract contract_;
  ConsoleDesk desk_;
  std::map<int64_t, std::shared_ptr<Socket>> sockets_;  // of the network's thread
  std::atomic<int64_t> num_viewers_ = 0, in_work_ = 0;
  std::unique_ptr<Worker> painter_;    // pictures to bytes
  std::unique_ptr<Worker> librarian_;  // what pages want to see of the recording
  std::unique_ptr<Refinement> refinement_;
};

}  // namespace apo::serving
