#include "serving/console_pages.h"

#include <torch/types.h>

#include <algorithm>
#include <cstring>
#include <deque>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/data/trajectory.h"
#include "apo/pictures/jpeg.h"
#include "base/json.h"
#include "data/layouts.h"

namespace apo::serving {
namespace {

using Json = ConsoleDesk::Json;

constexpr int64_t kUnseen = 2;       // pictures of a camera that a page has not shown yet
constexpr size_t kMostWaiting = 64;  // frames for a page that does not read; then it is cut off
constexpr size_t kLongestMessage = 64 << 10;
constexpr int64_t kInWork = 4;  // steps whose pictures wait for being packed

struct File {
  std::string_view name, type, text;
};
constexpr std::string_view kScript = "text/javascript; charset=utf-8";
constexpr File kFiles[] = {
    {
        "console.html",
        "text/html; charset=utf-8",
#include "serving/console/console.html.inc"
    },
    {
        "console.css",
        "text/css; charset=utf-8",
#include "serving/console/console.css.inc"
    },
    {
        "console.js",
        kScript,
#include "serving/console/console.js.inc"
    },
    {
        "course.js",
        kScript,
#include "serving/console/course.js.inc"
    },
    {
        "drawing.js",
        kScript,
#include "serving/console/drawing.js.inc"
    },
    {
        "hands.js",
        kScript,
#include "serving/console/hands.js.inc"
    },
    {
        "help.js",
        kScript,
#include "serving/console/help.js.inc"
    },
    {
        "instruction.js",
        kScript,
#include "serving/console/instruction.js.inc"
    },
    {
        "link.js",
        kScript,
#include "serving/console/link.js.inc"
    },
    {
        "names.js",
        kScript,
#include "serving/console/names.js.inc"
    },
    {
        "recordings.js",
        kScript,
#include "serving/console/recordings.js.inc"
    },
    {
        "steering.js",
        kScript,
#include "serving/console/steering.js.inc"
    },
    {
        "icon.svg",
        "image/svg+xml",
#include "serving/console/icon.svg.inc"
    },
};

// u32 little-endian N, N bytes of JSON, a picture.
std::string picture_frame(const Json& header, const std::string& picture) {
  const std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  const auto size = static_cast<uint32_t>(text.size());
  std::string frame(sizeof size, '\0');
  for (size_t i = 0; i < sizeof size; ++i) frame[i] = static_cast<char>(size >> (8 * i) & 0xff);
  return frame + text + picture;
}

Json header_of(const char* kind, const std::string& camera, int64_t step, const std::string& episode,
               double captured_ms) {
  return {{"kind", kind},       {"camera", camera},           {"step", step},
          {"episode", episode}, {"captured_ms", captured_ms}, {"format", "image/jpeg"}};
}

// Most often at the place that its name says.
std::pair<int64_t, data::EpisodeRecord> find_episode(const data::TrajectoryFile& file,
                                                     const std::string& name) {
  const int64_t place = data::episode_number(name).value_or(-1);
  for (int64_t i = -1; i < file.num_episodes(); ++i) {
    const int64_t at = i < 0 ? place : i;
    if (at < 0 || at >= file.num_episodes()) continue;
    data::EpisodeRecord record = file.episode(at);
    if (record.name == name) return {at, std::move(record)};
  }
  throw DataError(concat(name, ": is not in the recording yet"));
}

std::string packed(const Json& message) {
  return message.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string ConsoleContract::json() const {
  std::vector<std::string> names;
  if (action_size == 7)
    names = {"x", "y", "z", "roll", "pitch", "yaw", "gripper"};
  else
    for (int64_t d = 0; d < action_size; ++d) names.push_back(concat("a", d));
  Json keys = {{"take_over", "KeyT"}, {"hand_back", "KeyH"}, {"pause", "KeyP"},
               {"success", "Digit1"}, {"failure", "Digit0"}, {"reset", "KeyR"},
               {"slower", "Minus"},   {"faster", "Equal"},   {"gripper", "Space"}};
  constexpr std::pair<const char*, const char*> kAxes[] = {{"KeyW", "KeyS"}, {"KeyA", "KeyD"},
                                                           {"KeyE", "KeyQ"}, {"KeyL", "KeyJ"},
                                                           {"KeyI", "KeyK"}, {"KeyU", "KeyO"}};
  // what one sees in the picture; of a robot whose numbers are a hand's place
  constexpr std::pair<const char*, const char*> kSeen[] = {
      {"away", "toward"}, {"left", "right"}, {"up", "down"}};
  Json directions = Json::object();
  size_t axis = 0;
  for (int64_t d = 0; d < action_size && axis < std::size(kAxes); ++d) {
    if (std::ranges::find(grippers, d) != grippers.end()) continue;
    const bool other_way = std::ranges::find(reversed, d) != reversed.end();
    const std::string first = concat(other_way ? "-" : "+", d), second = concat(other_way ? "+" : "-", d);
    keys[first] = kAxes[axis].first;
    keys[second] = kAxes[axis].second;
    if (action_size == 7 && axis < std::size(kSeen)) {
      directions[first] = kSeen[axis].first;
      directions[second] = kSeen[axis].second;
    }
    ++axis;
  }
  Json contract = {{"version", 1},
                   {"action_size", action_size},
                   {"control_hz", control_hz},
                   {"action_names", names},
                   {"gripper", grippers.empty() ? Json() : Json(grippers.front())},
                   {"cameras", cameras},
                   {"keys", keys},
                   {"directions", directions},
                   {"speed", speed},
                   {"token_needed", token_needed},
                   {"can",
                    {{"reset", can_reset},
                     {"refine", can_refine},
                     {"instruction", can_instruct},
                     {"replay", can_replay},
                     {"mark", can_mark}}}};
  if (gripper.is_coded()) {
    contract["gripper_open"] = *gripper.open;
    contract["gripper_closed"] = *gripper.closed;
  }
  std::string text = packed(contract), safe;
  for (const char c : text) safe += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return safe;
}

// One page. All of it is the network thread's.
class Console::Socket : public std::enable_shared_from_this<Socket> {
 public:
  explicit Socket(WebSocket socket) : socket_(std::move(socket)) {
    socket_.read_message_max(kLongestMessage);
  }
  WebSocket& stream() { return socket_; }

  void send(std::string bytes, bool is_text) {
    if (closing_) return;
    if (outgoing_.size() >= kMostWaiting) return cut();
    outgoing_.push_back({std::move(bytes), is_text});
    write_next();
  }
  /// Whether the page has shown enough of the camera's earlier pictures.
  bool may_show(const std::string& camera) {
    if (unseen_[camera] >= kUnseen) return false;
    ++unseen_[camera];
    return true;
  }
  void shown(const std::string& camera) {
    if (unseen_[camera] > 0) --unseen_[camera];
  }
  void close() {
    closing_ = true;
    write_next();
  }
  void cut() {
    closing_ = true;
    beast::get_lowest_layer(socket_).close();
  }

 private:
  void write_next() {
    if (writing_) return;
    if (outgoing_.empty()) {
      if (!closing_ || !socket_.is_open()) return;
      writing_ = true;
      socket_.async_close(websocket::close_code::going_away, [self = shared_from_this()](error_code) {});
      return;
    }
    writing_ = true;
    socket_.text(outgoing_.front().second);
    socket_.async_write(net::buffer(outgoing_.front().first),
                        [self = shared_from_this()](error_code error, size_t) {
                          self->writing_ = false;
                          self->outgoing_.pop_front();
                          if (!error) self->write_next();
                        });
  }

  WebSocket socket_;
  std::deque<std::pair<std::string, bool>> outgoing_;
  std::map<std::string, int64_t> unseen_;
  bool writing_ = false, closing_ = false;
};

Console::Console(net::io_context& io, ConsoleContract contract, DeskOptions options, ConsoleDesk::End end)
    : io_(io),
      contract_(std::move(contract)),
      desk_(
          std::move(options), [this](int64_t viewer, const Json& message) { post(viewer, message); },
          std::move(end)),
      painter_(std::make_unique<Worker>()),
      librarian_(std::make_unique<Worker>()) {}

Console::~Console() {
  refinement_.reset();
  librarian_.reset();
  painter_.reset();
}

void Console::post(int64_t viewer, const Json& message) {
  net::post(io_, [this, viewer, text = packed(message)] { say(viewer, text); });
}

void Console::refine_by(RefinePlan plan, Refinement::Copy copy) {
  refinement_ = std::make_unique<Refinement>(std::move(plan), std::move(copy),
                                             [this](const Json& message) { post(0, message); });
}

bool Console::owns(std::string_view path) const {
  return path == "/console" || path.starts_with("/console/");
}

HttpResponse Console::get(const HttpRequest& request) {
  std::string path(request.target().data(), request.target().size());
  path = path.substr(0, path.find('?'));
  const bool is_page = path == "/" || path == "/console" || path == "/console/";
  const std::string name = is_page ? "console.html" : path.substr(std::string_view("/console/").size());
  HttpResponse response(http::status::not_found, request.version());
  for (const File& file : kFiles) {
    if (file.name != name) continue;
    response.result(http::status::ok);
    response.set(http::field::content_type, beast::string_view(file.type.data(), file.type.size()));
    response.body() = std::string(file.text.substr(1));  // behind the line feed of its literal
    constexpr std::string_view kPlace = "@CONSOLE_CONTRACT@";
    if (const size_t at = response.body().find(kPlace); at != std::string::npos)
      response.body().replace(at, kPlace.size(), contract_.json());
  }
  response.set(http::field::cache_control, "no-store");
  response.set("X-Content-Type-Options", "nosniff");
  response.set(
      "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  return response;
}

net::awaitable<void> Console::speak(WebSocket stream, HttpRequest upgrade, std::string address) {
  const auto socket = std::make_shared<Socket>(std::move(stream));
  error_code error;
  co_await socket->stream().async_accept(upgrade, caught(error));
  if (error) co_return;
  const int64_t viewer = desk_.join(Clock::now());
  sockets_[viewer] = socket;
  if (refinement_) post(viewer, refinement_->message());
  ++num_viewers_;
  log_info("console: a page at ", address, " is open");
  beast::flat_buffer buffer;
  while (!error) {
    co_await socket->stream().async_read(buffer, caught(error));
    if (!error && socket->stream().got_text()) hear(viewer, beast::buffers_to_string(buffer.data()));
    buffer.clear();
  }
  --num_viewers_;
  sockets_.erase(viewer);
  desk_.leave(viewer);
  log_info("console: the page at ", address, " is closed");
}

void Console::hear(int64_t viewer, const std::string& text) {
  try {
    const auto message = parse_json<Json>(text, "message");
    APO_CHECK(DataError, message.is_object(), "message: expected an object");
    const Json type = message.value("type", Json());
    if (type == "shown") {
      if (const auto found = sockets_.find(viewer); found != sockets_.end() && message.contains("camera"))
        found->second->shown(message["camera"].get<std::string>());
    } else if (type == "replay") {
      replay(viewer, message);
    } else if (type == "refine") {
      APO_CHECK(DataError, refinement_ != nullptr, "nothing is recorded that a policy could learn from");
      refinement_->start();
    } else {
      desk_.hear(viewer, message, Clock::now());
    }
  } catch (const std::exception& error) {
    say(viewer, packed({{"type", "notice"}, {"level", "error"}, {"text", error.what()}}));
  }
}

void Console::say(int64_t viewer, std::string text) {
  for (const auto& [number, socket] : sockets_)
    if (viewer == 0 || viewer == number) socket->send(text, true);
}

void Console::tick() {
  for (const int64_t viewer : desk_.look_around(Clock::now()))
    if (const auto found = sockets_.find(viewer); found != sockets_.end()) found->second->cut();
}

void Console::stop() {
  for (const auto& [number, socket] : sockets_) socket->close();
}

std::optional<Override> Console::decide(const ServedMoment& moment) {
  std::optional<Override> override = desk_.decide(moment);
  if (!is_watched() || in_work_ >= kInWork || !desk_.watches(moment.episode)) return override;
  ++in_work_;
  painter_->post([this, pictures = moment.observation.images, step = moment.step, name = desk_.episode(),
                  captured = moment.captured_ms] {
    for (const auto& [camera, picture] : pictures) {
      try {
        std::string frame =
            picture_frame(header_of("camera", camera, step, name, captured), pictures::encode_jpeg(picture));
        net::post(io_, [this, camera = camera, frame = std::move(frame)] { show(camera, frame); });
      } catch (const std::exception& error) {
        log_warn("console: camera ", camera, ": ", error.what());
      }
    }
    --in_work_;
  });
  return override;
}

void Console::show(const std::string& camera, const std::string& bytes) {
  for (const auto& [number, socket] : sockets_)
    if (socket->may_show(camera)) socket->send(bytes, false);
}

void Console::happened(const std::string& episode, const Step& what) { desk_.happened(episode, what); }

void Console::ended(const std::string& episode, std::optional<bool> success, const std::string& outcome,
                    std::optional<int64_t> recording) {
  desk_.ended(episode, success, outcome, recording);
}

// Of what has joined the recording.
void Console::replay(int64_t viewer, const Json& message) {
  APO_CHECK(DataError, contract_.can_replay, "nothing is recorded that could be replayed");
  const auto name = message.at("episode").get<std::string>();
  const auto step = message.at("step").get<int64_t>();
  librarian_->post([this, viewer, name, step] {
    try {
      const auto file = data::TrajectoryFile::open(contract_.recording, data::TrajectoryFormat::apo);
      const auto [i, record] = find_episode(*file, name);
      APO_CHECK(DataError, step >= 0 && step < record.num_steps(), name, ": expected a step below ",
                record.num_steps(), ", found ", step);
      for (const auto& [camera, picture] : file->observation(i, step).images) {
        std::string frame =
            picture_frame(header_of("replay", camera, step, name, 0), pictures::encode_jpeg(picture));
        net::post(io_, [this, viewer, frame = std::move(frame)] {
          if (const auto found = sockets_.find(viewer); found != sockets_.end())
            found->second->send(frame, false);
        });
      }
      const auto at = static_cast<size_t>(step);
      post(viewer, {{"type", "replay_step"},
                    {"episode", name},
                    {"step", step},
                    {"source", std::string(1, letter_of(record.sources[at]))},
                    {"label", desk_.label(name, step)},
                    {"action", record.actions[at]}});
    } catch (const std::exception& error) {
      post(viewer, {{"type", "notice"}, {"level", "warn"}, {"text", error.what()}});
    }
  });
}

}  // namespace apo::serving
