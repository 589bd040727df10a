#include "data/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/data/recovery.h"
#include "base/open_file.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "APOJRNL1";
enum RecordType : uint32_t { kBegin = 1, kStep = 2, kEnd = 3, kDiscard = 4 };
struct RecordHeader {
  uint32_t type;
  uint32_t zero;
  uint64_t length;
};

uint64_t checksum(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325ULL ^ bytes.size();
  while (!bytes.empty()) {
    uint64_t word = 0;
    const size_t n = std::min<size_t>(8, bytes.size());
    memcpy(&word, bytes.data(), n);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29;
    bytes.remove_prefix(n);
  }
  return hash;
}

class Packer {
 public:
  template <class T>
  void number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view text) {
    number<uint64_t>(text.size());
    bytes_.append(text);
  }
  void floats(const std::vector<float>& values) {
    number<uint64_t>(values.size());
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// Payloads are checksummed, so running over the end is a foreign or broken journal.
class Unpacker {
 public:
  Unpacker(std::string_view bytes, const fs::path& path) : bytes_(bytes), path_(path) {}
  template <class T>
  T number() {
    T value;
    memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string text() { return std::string(take(number<uint64_t>())); }
  bool at_end() const { return bytes_.empty(); }
  std::string_view take(uint64_t n) {
    APO_CHECK(DataError, n <= bytes_.size(), path_.string(), ": damaged journal");
    const std::string_view part = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return part;
  }
  std::vector<float> floats() {
    const auto n = number<uint64_t>();
    APO_CHECK(DataError, n <= bytes_.size() / sizeof(float), path_.string(), ": damaged journal");
    std::vector<float> values(n);
    if (n) memcpy(values.data(), take(n * sizeof(float)).data(), n * sizeof(float));
    return values;
  }

 private:
  std::string_view bytes_;
  const fs::path& path_;
};

void pack_step(const Step& step, Packer& out) {
  out.number<int8_t>(static_cast<int8_t>(step.source));
  out.number<int8_t>(step.desirable ? static_cast<int8_t>(*step.desirable) : int8_t{-1});
  out.number<int8_t>(step.done);
  // bit 0: what the policy wanted; bit 1: when it was asked
  out.number<int8_t>(
      static_cast<int8_t>(step.policy_action.has_value() + 2 * step.decision_offset.has_value()));
  out.number<float>(step.reward);
  out.floats(step.action);
  if (step.policy_action) out.floats(*step.policy_action);
  if (step.decision_offset) out.number<int64_t>(*step.decision_offset);
  out.number<uint64_t>(step.observation.state.size());
  for (const auto& [name, values] : step.observation.state) {
    out.text(name);
    out.floats(values);
  }
  out.number<uint64_t>(step.observation.images.size());
  for (const auto& [name, image] : step.observation.images) {
    const at::Tensor plain = image.contiguous();
    out.text(name);
    out.number<int64_t>(plain.size(0));
    out.number<int64_t>(plain.size(1));
    out.text({static_cast<const char*>(plain.const_data_ptr()), static_cast<size_t>(plain.numel())});
  }
  if (!step.take_over) return;
  out.text(step.take_over->reason);
  out.number<int64_t>(step.take_over->steps_held);
}

Step unpack_step(Unpacker in, const std::string& instruction, const fs::path& path) {
  Step step;
  step.source = static_cast<ActionSource>(in.number<int8_t>());
  const auto desirable = in.number<int8_t>();
  if (desirable >= 0) step.desirable = desirable != 0;
  step.done = in.number<int8_t>() != 0;
  const auto there = in.number<int8_t>();
  step.reward = in.number<float>();
  step.action = in.floats();
  if (there & 1) step.policy_action = in.floats();
  if (there & 2) step.decision_offset = in.number<int64_t>();
  step.observation.instruction = instruction;
  for (auto n = in.number<uint64_t>(); n > 0; --n) {
    const std::string name = in.text();
    step.observation.state[name] = in.floats();
  }
  for (auto n = in.number<uint64_t>(); n > 0; --n) {
    const std::string name = in.text();
    const auto height = in.number<int64_t>(), width = in.number<int64_t>();
    const std::string_view pixels = in.take(in.number<uint64_t>());
    APO_CHECK(DataError,
              height > 0 && width > 0 && height < 65536 && width < 65536 &&
                  static_cast<int64_t>(pixels.size()) == height * width * 3,
              path.string(), ": damaged journal");
    at::Tensor image = at::empty({height, width, 3}, at::kByte);
    memcpy(image.data_ptr(), pixels.data(), pixels.size());
    step.observation.images[name] = image;
  }
  if (in.at_end()) return step;
  step.take_over.emplace().reason = in.text();
  step.take_over->steps_held = in.number<int64_t>();
  return step;
}

// Applies one whole record to the list of episodes.
void apply(uint32_t type, Unpacker in, const fs::path& path, std::vector<JournalEpisode>& episodes) {
  const bool open = !episodes.empty() && !episodes.back().ended;
  if (type == kBegin) {
    JournalEpisode episode;
    episode.number = in.number<int64_t>();
    episode.episode.instruction = in.text();
    episode.policy_hash = in.text();
    episodes.push_back(std::move(episode));
    return;
  }
  APO_CHECK(DataError, open && type <= kDiscard, path.string(), ": damaged journal");
  Episode& episode = episodes.back().episode;
  if (type == kStep) {
    episode.steps.push_back(unpack_step(in, episode.instruction, path));
  } else if (type == kEnd) {
    const auto success = in.number<int8_t>();
    if (success >= 0) episode.success = success != 0;
    episode.outcome = in.text();
    episodes.back().ended = true;
  } else {
    episodes.pop_back();
  }
}

int open_and_lock(const fs::path& path) {
  for (;;) {
    const int descriptor = open_to_write(path, O_RDWR | O_CREAT | O_APPEND, "cannot create");
    if (!take_lock(descriptor, LOCK_EX)) {
      ::close(descriptor);
      throw RunError(concat(path.string(), ": another process is writing this trajectory file"));
    }
    struct stat ours = {}, there = {};
    ::fstat(descriptor, &ours);
    if (::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
      return descriptor;
    ::close(descriptor);  // its holder replaced or removed it between our two calls
  }
}

}  // namespace

fs::path journal_path(const fs::path& trajectory) { return trajectory.string() + ".journal"; }

std::vector<JournalEpisode> read_journal(const fs::path& journal) {
  std::vector<JournalEpisode> episodes;
  std::error_code ignored;
  if (!fs::exists(journal, ignored)) return episodes;
  const std::string bytes = read_file(journal);
  std::string_view rest = bytes;
  // cut short right after it was made
  if (rest.size() < kMagic.size() && kMagic.starts_with(rest)) return episodes;
  APO_CHECK(DataError, rest.starts_with(kMagic), journal.string(),
            ": expected a trajectory journal, found other content");
  rest.remove_prefix(kMagic.size());
  while (rest.size() >= sizeof(RecordHeader)) {
    RecordHeader header;
    memcpy(&header, rest.data(), sizeof header);
    if (header.length > rest.size() - sizeof header || rest.size() - sizeof header - header.length < 8) break;
    const std::string_view payload = rest.substr(sizeof header, header.length);
    uint64_t sum = 0;
    memcpy(&sum, payload.data() + payload.size(), 8);
    if (sum != checksum(payload)) break;
    const size_t before = bytes.size() - rest.size();
    apply(header.type, Unpacker(payload, journal), journal, episodes);
    if (header.type == kBegin) episodes.back().offset = static_cast<int64_t>(before);
    rest.remove_prefix(sizeof header + header.length + 8);
  }
  std::erase_if(episodes, [](const JournalEpisode& e) { return !e.ended && e.episode.steps.empty(); });
  for (JournalEpisode& e : episodes) {
    if (e.ended) continue;
    e.episode.outcome = "interrupted";
    // nobody knows how it would have ended; its last steps must not pass for good ones
    e.episode.success = false;
  }
  return episodes;
}

bool drop_unfinished_episode(const fs::path& path) {
  if (!fs::exists(journal_path(path))) return false;
  Journal journal(journal_path(path));
  const std::vector<JournalEpisode> episodes = read_journal(journal_path(path));
  if (episodes.empty() || episodes.back().ended) return false;
  journal.cut(episodes.back().offset);
  return true;
}

Journal::Journal(const fs::path& path) : path_(path), descriptor_(open_and_lock(path)) {
  struct stat status = {};
  ::fstat(descriptor_, &status);
  size_ = status.st_size;
  if (size_ == 0) buffer_ = kMagic;
}

Journal::~Journal() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void Journal::add_record(uint32_t type, std::string_view payload) {
  const RecordHeader header{type, 0, payload.size()};
  const uint64_t sum = checksum(payload);
  buffer_.append(reinterpret_cast<const char*>(&header), sizeof header);
  buffer_.append(payload);
  buffer_.append(reinterpret_cast<const char*>(&sum), sizeof sum);
}

void Journal::begin_episode(int64_t number, const std::string& instruction, const std::string& policy_hash) {
  Packer out;
  out.number<int64_t>(number);
  out.text(instruction);
  out.text(policy_hash);
  add_record(kBegin, out.bytes());
}

void Journal::append(const Step& step) {
  Packer out;
  pack_step(step, out);
  add_record(kStep, out.bytes());
}

void Journal::end_episode(std::optional<bool> success, const std::string& outcome) {
  Packer out;
  out.number<int8_t>(success ? static_cast<int8_t>(*success) : int8_t{-1});
  out.text(outcome);
  add_record(kEnd, out.bytes());
}

void Journal::discard_episode() { add_record(kDiscard, ""); }

void Journal::flush() {
  std::string_view rest = buffer_;
  const auto forget_written = [&] {
    const size_t written = buffer_.size() - rest.size();
    buffer_.erase(0, written);
    size_ += static_cast<int64_t>(written);
  };
  try {
    write_all(descriptor_, rest, path_);
  } catch (...) {
    forget_written();  // a later flush goes on where this one stopped
    throw;
  }
  forget_written();
}

void Journal::cut(int64_t bytes) {
  APO_ASSERT(bytes <= size_);
  APO_CHECK(RunError, ::ftruncate(descriptor_, bytes) == 0, path_.string(),
            ": cannot shorten: ", strerror(errno));
  size_ = bytes;
}

void Journal::take_back(int64_t bytes) {
  buffer_.clear();
  cut(bytes);
}

void Journal::restart() {
  const fs::path fresh = path_.string() + ".new";
  ::unlink(fresh.c_str());
  const int descriptor = open_and_lock(fresh);
  if (::rename(fresh.c_str(), path_.c_str()) != 0) {
    ::close(descriptor);
    throw RunError(concat(path_.string(), ": cannot replace: ", strerror(errno)));
  }
  ::close(descriptor_);
  descriptor_ = descriptor;
  size_ = 0;
  buffer_ = kMagic;
}

void Journal::remove() { ::unlink(path_.c_str()); }

}  // namespace apo::data
