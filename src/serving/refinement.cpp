#include "serving/refinement.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/finishing.h"
#include "apo/base/log.h"
#include "apo/base/provenance.h"
#include "base/json.h"
#include "base/paths.h"
#include "results/file_names.h"

extern char** environ;

namespace apo::serving {
namespace {

namespace fs = std::filesystem;

constexpr auto kLook = std::chrono::milliseconds(250);
constexpr int kNice = 10;  // who is served comes first
constexpr size_t kMostPoints = 400;
constexpr std::array<std::string_view, 4> kCurves{"loss", "reward_desirable", "reward_undesirable",
                                                  "action_l1_desirable"};

// As a value of --set: JSON's texts are YAML's.
std::string quoted(const fs::path& path) { return nlohmann::json(path.string()).dump(); }

// DIRECTORY/1, or the first of its numbers that is free.
fs::path make_next_directory(const fs::path& directory) {
  make_directory(directory);
  for (int64_t number = 1;; ++number) {
    const fs::path next = directory / std::to_string(number);
    std::error_code error;
    if (fs::create_directory(next, error)) return fs::absolute(next);
    APO_CHECK(RunError, !error, next.string(), ": cannot be made: ", error.message());
  }
}

// The last line that says something: the program's own message.
std::string last_line(const fs::path& log) {
  std::ifstream in(log);
  std::string line, last;
  std::getline(in, line);  // the command
  while (std::getline(in, line))
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
  return last;
}

// What it prints goes to `log`. RunError naming the program.
pid_t spawn(const std::vector<std::string>& command, const fs::path& log) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  ::posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  // no port and no robot's connection stays open with it
  ::posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  // Ctrl-C is for the server, which then asks it to save and end
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, argv.front(), &files, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  APO_CHECK(RunError, error == 0, command.front(), ": cannot be started: ", std::strerror(error));
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(pid), kNice);
  return pid;
}

}  // namespace

void Curves::read_on() {
  std::ifstream in(path_, std::ios::binary);
  if (!in.seekg(read_)) return;
  for (std::string line; std::getline(in, line) && !in.eof();) {  // a last line without its end is not whole
    read_ += std::ssize(line) + 1;
    const auto json = parse_if_json(line, path_.string());
    if (!json || !json->is_object() || !json->contains("step") || !(*json)["step"].is_number()) continue;
    step_ = (*json)["step"].get<int64_t>();
    for (const std::string_view name : kCurves) {
      const auto value = json->find(name);
      if (value == json->end() || !value->is_number()) continue;
      auto& points = points_[std::string(name)];
      points.emplace_back(step_, value->get<double>());
      if (points.size() <= kMostPoints) continue;
      size_t kept = 0;
      for (size_t i = 0; i < points.size(); i += 2) points[kept++] = points[i];
      points.resize(kept);
    }
  }
}

nlohmann::ordered_json Curves::json() const {
  nlohmann::ordered_json curves = nlohmann::ordered_json::object();
  for (const std::string_view name : kCurves)
    if (const auto found = points_.find(std::string(name)); found != points_.end())
      curves[std::string(name)] = found->second;
  return curves;
}

Refinement::Refinement(RefinePlan plan, Copy copy, Tell tell)
    : plan_(std::move(plan)), copy_(std::move(copy)), tell_(std::move(tell)) {}

Refinement::~Refinement() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Refinement::start() {
  {
    const std::lock_guard lock(mutex_);
    if (state_ == "running") return;
    state_ = "running";
    text_ = "Looking at what was recorded";
    step_ = 0;
    curves_ = Json::object();
  }
  if (thread_.joinable()) thread_.join();  // of the one before, which has ended
  thread_ = std::thread([this] { run(); });
  tell_(message());
}

Refinement::Json Refinement::message() const {
  const std::lock_guard lock(mutex_);
  return {{"type", "refine"}, {"state", state_},     {"text", text_},
          {"step", step_},    {"of", plan_.updates}, {"curves", curves_}};
}

void Refinement::set(const std::string& state, const std::string& text) {
  {
    const std::lock_guard lock(mutex_);
    state_ = state;
    text_ = text;
  }
  tell_(message());
}

// The exit code; 128 and the signal's number where one ended it.
int Refinement::wait_for(int64_t pid, Curves& curves) {
  bool told = false;
  int64_t last_step = -1;
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(static_cast<pid_t>(pid), &status, WNOHANG);
    curves.read_on();
    if (curves.step() != last_step) {
      last_step = curves.step();
      const std::lock_guard lock(mutex_);
      step_ = last_step;
      curves_ = curves.json();
    }
    if (ended == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (ended < 0 && errno != EINTR) return -1;
    tell_(message());
    if (stopping_ && !std::exchange(told, true)) ::kill(static_cast<pid_t>(pid), SIGTERM);
    std::this_thread::sleep_for(kLook);
  }
}

void Refinement::wait() {
  bool told = false;
  while (!interrupted() && message()["state"] == "running") {
    if (!std::exchange(told, true)) log_info("the training goes on; Ctrl-C lets it save and ends it");
    std::this_thread::sleep_for(kLook);
  }
}

void Refinement::run() {
  const Finishing finishing("the training of the console, which saves");
  try {
    const fs::path directory = make_next_directory(plan_.directory);
    const fs::path data = directory / "interactions.hdf5", training = directory / "training";
    try {
      copy_(data);
    } catch (...) {
      std::error_code ignored;
      fs::remove(directory, ignored);
      fs::remove(plan_.directory, ignored);  // where nothing else is in it
      throw;
    }
    if (stopping_) return set("failed", "the server stopped");
    std::vector<std::string> command = plan_.command;
    for (const std::string& setting :
         {concat("data.interactions=[{path: ", quoted(data), "}]"), concat("run.dir=", quoted(training))}) {
      command.emplace_back("--set");
      command.push_back(setting);
    }
    const fs::path log = directory / "log.txt";
    write_file_atomic(log, shell_line(command) + "\n");
    const pid_t pid = spawn(command, log);
    log_info("refining into ", training.string());
    set("running", concat("Training into ", training.string()));
    Curves curves(training / results::kMetricsFile);
    const int code = wait_for(pid, curves);
    if (code == 0) {
      log_info("refined: ", plan_.next, " --set policy.checkpoint=", training.string());
      set("done", concat("Refined. Next: ", plan_.next, " --set policy.checkpoint=", training.string()));
    } else {
      const std::string said = last_line(log);
      log_warn("refining ended with ", code, ": ", said);
      set("failed", concat("apo-train ended with ", code, ": ", said, " (", log.string(), ")"));
    }
  } catch (const std::exception& error) {
    log_warn("refining: ", error.what());
    set("failed", error.what());
  }
}

}  // namespace apo::serving
