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
#include "apo/data/recovery.h"
#include "base/open_file.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "APOJRNL1";
enum RecordType : uint32_t { kBegin = 1, kStep = 2, kEnd = 3 };
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
  template <class T>
  void numbers(std::span<const T> values) {
    number<uint64_t>(values.size());
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  void floats(const std::vector<float>& values) { numbers(std::span(values)); }
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
  template <class T>
  std::vector<T> numbers() {
    const auto n = number<uint64_t>();
    APO_CHECK(DataError, n <= bytes_.size() / sizeof(T), path_.string(), ": damaged journal");
    std::vector<T> values(n);
    if (n) memcpy(values.data(), take(n * sizeof(T)).data(), n * sizeof(T));
    return values;
  }
  std::vector<float> floats() { return numbers<float>(); }

 private:
  std::string_view bytes_;
  const fs::path& path_;
};

void pack_step(const Step& step, std::span<const double> simulator_state, Packer& out) {
  out.number<int8_t>(static_cast<int8_t>(step.source));
  out.number<int8_t>(step.desirable ? static_cast<int8_t>(*step.desirable) : int8_t{-1});
  out.number<int8_t>(step.done);
  // bit 0: what the policy wanted; bit 1: when it was asked; bit 2: the simulator's state
  out.number<int8_t>(static_cast<int8_t>(
      step.policy_action.has_value() + 2 * step.decision_offset.has_value() + 4 * !simulator_state.empty()));
  out.number<float>(step.reward);
  out.floats(step.action);
  if (step.policy_action) out.floats(*step.policy_action);
  if (step.decision_offset) out.number<int64_t>(*step.decision_offset);
  if (!simulator_state.empty()) out.numbers(simulator_state);
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

Step unpack_step(Unpacker in, const std::string& instruction, const fs::path& path, bool with_pictures,
                 std::vector<double>& simulator_state) {
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
  if (there & 4) simulator_state = in.numbers<double>();
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
    if (!with_pictures) continue;
    at::Tensor image = at::empty({height, width, 3}, at::kByte);
    memcpy(image.data_ptr(), pixels.data(), pixels.size());
    step.observation.images[name] = image;
  }
  if (in.at_end()) return step;
  step.take_over.emplace().reason = in.text();
  step.take_over->steps_held = in.number<int64_t>();
  return step;
}

// Applies one whole record, which begins at `offset`, to the list of episodes.
void apply(uint32_t type, Unpacker in, int64_t offset, const fs::path& path,
           std::vector<JournalEpisode>& episodes) {
  const bool open = !episodes.empty() && !episodes.back().ended;
  if (type == kBegin) {
    JournalEpisode episode;
    episode.number = in.number<int64_t>();
    episode.episode.instruction = in.text();
    episode.policy_hash = in.text();
    episode.offset = offset;
    episodes.push_back(std::move(episode));
    return;
  }
  APO_CHECK(DataError, open && (type == kStep || type == kEnd), path.string(), ": damaged journal");
  Episode& episode = episodes.back().episode;
  if (type == kStep) {
    episodes.back().step_offsets.push_back(offset);
  } else {
    const auto success = in.number<int8_t>();
    if (success >= 0) episode.success = success != 0;
    episode.outcome = in.text();
    episodes.back().ended = true;
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
  const JournalReader reader(journal);
  std::vector<JournalEpisode> episodes = reader.episodes();
  for (JournalEpisode& episode : episodes) reader.read_steps(episode, true);
  return episodes;
}

// One record, in a buffer that the next one takes over.
struct JournalReader::Record {
  uint32_t type = 0;
  std::string bytes;  // the payload and its checksum
  int64_t end = 0;    // where the next record begins
  std::string_view payload() const { return std::string_view(bytes).substr(0, bytes.size() - 8); }
};

JournalReader::JournalReader(const fs::path& journal) : path_(journal) {
  descriptor_ = ::open(journal.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe does not stop us
  APO_CHECK(DataError, descriptor_ >= 0 || errno == ENOENT, journal.string(),
            ": cannot read: ", strerror(errno));
}

JournalReader::~JournalReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int64_t JournalReader::size() const {
  struct stat status = {};
  APO_CHECK(DataError, ::fstat(descriptor_, &status) == 0, path_.string(),
            ": cannot read: ", strerror(errno));
  return status.st_size;
}

// Fewer than `length` bytes where the file ends.
size_t JournalReader::read_bytes(int64_t offset, char* to, size_t length) const {
  size_t done = 0;
  while (done < length) {
    const ssize_t n = ::pread(descriptor_, to + done, length - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    APO_CHECK(DataError, n >= 0, path_.string(), ": cannot read: ", strerror(errno));
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

// The record at `offset` of a journal of `size` bytes; false if it is not whole.
bool JournalReader::read_record(int64_t offset, int64_t size, Record& record) const {
  RecordHeader header;
  if (read_bytes(offset, reinterpret_cast<char*>(&header), sizeof header) < sizeof header) return false;
  const int64_t rest = size - offset - static_cast<int64_t>(sizeof header) - 8;
  if (rest < 0 || header.length > static_cast<uint64_t>(rest)) return false;
  record.type = header.type;
  record.bytes.resize(header.length + 8);
  if (read_bytes(offset + static_cast<int64_t>(sizeof header), record.bytes.data(), record.bytes.size()) <
      record.bytes.size())
    return false;
  record.end = offset + static_cast<int64_t>(sizeof header + record.bytes.size());
  uint64_t sum = 0;
  memcpy(&sum, record.bytes.data() + header.length, 8);
  return sum == checksum(record.payload());
}

std::vector<JournalEpisode> JournalReader::episodes() const {
  std::vector<JournalEpisode> episodes;
  if (descriptor_ < 0) return episodes;
  std::string magic(kMagic.size(), '\0');
  magic.resize(read_bytes(0, magic.data(), magic.size()));
  // cut short right after it was made
  if (magic.size() < kMagic.size() && kMagic.starts_with(magic)) return episodes;
  APO_CHECK(DataError, magic == kMagic, path_.string(),
            ": expected a trajectory journal, found other content");
  Record record;
  const int64_t end = size();
  for (auto offset = static_cast<int64_t>(magic.size()); read_record(offset, end, record);
       offset = record.end)
    apply(record.type, Unpacker(record.payload(), path_), offset, path_, episodes);
  std::erase_if(episodes, [](const JournalEpisode& e) { return !e.ended && e.step_offsets.empty(); });
  for (JournalEpisode& e : episodes) {
    if (e.ended) continue;
    e.episode.outcome = "interrupted";
    // nobody knows how it would have ended; its last steps must not pass for good ones
    e.episode.success = false;
  }
  return episodes;
}

Step JournalReader::read_step(const JournalEpisode& episode, size_t index, bool with_pictures, Record& record,
                              std::vector<double>& simulator_state) const {
  APO_CHECK(
      DataError,
      descriptor_ >= 0 && read_record(episode.step_offsets.at(index), size(), record) && record.type == kStep,
      path_.string(), ": expected step ", index, " of its episode ", episode.number, " at byte ",
      episode.step_offsets.at(index), ", found no whole one: it changed while it was read");
  return unpack_step(Unpacker(record.payload(), path_), episode.episode.instruction, path_, with_pictures,
                     simulator_state);
}

void JournalReader::read_steps(JournalEpisode& episode, bool with_pictures) const {
  Record record;
  APO_CHECK(DataError,
            descriptor_ >= 0 && read_record(episode.offset, size(), record) && record.type == kBegin,
            path_.string(), ": expected episode ", episode.number, " at byte ", episode.offset,
            ", found none: it changed while it was read");
  Unpacker head(record.payload(), path_);
  head.number<int64_t>();
  head.text();  // the instruction
  head.text();  // the policy's hash
  episode.playback = {};
  if (!head.at_end()) episode.playback.model = head.text();
  episode.episode.steps.clear();
  for (size_t i = 0; i < episode.step_offsets.size(); ++i) {
    std::vector<double> state;
    episode.episode.steps.push_back(read_step(episode, i, with_pictures, record, state));
    if (!state.empty()) episode.playback.states.push_back(std::move(state));
  }
}

Step JournalReader::step(const JournalEpisode& episode, size_t index) const {
  Record record;
  std::vector<double> ignored;
  return read_step(episode, index, true, record, ignored);
}

bool drop_unfinished_episode(const fs::path& path) {
  if (!fs::exists(journal_path(path))) return false;
  Journal journal(journal_path(path));
  const std::vector<JournalEpisode> episodes = JournalReader(journal_path(path)).episodes();
  if (episodes.empty() || episodes.back().ended) return false;
  journal.cut(episodes.back().offset);
  return true;
}

void copy_recording(const fs::path& from, const fs::path& to) {
  const auto copy = [](const fs::path& source, const fs::path& target) {
    std::error_code error;
    fs::copy_file(source, target, fs::copy_options::overwrite_existing, error);
    APO_CHECK(RunError, !error, source.string(), ": cannot be copied to ", target.string(), ": ",
              error.message());
  };
  copy(from, to);
  std::error_code error;
  fs::remove(journal_path(to), error);
  if (!fs::exists(journal_path(from))) return;
  copy(journal_path(from), journal_path(to));
  drop_unfinished_episode(to);
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

void Journal::begin_episode(int64_t number, const std::string& instruction, const std::string& policy_hash,
                            const std::string& model) {
  Packer out;
  out.number<int64_t>(number);
  out.text(instruction);
  out.text(policy_hash);
  if (!model.empty()) out.text(model);
  add_record(kBegin, out.bytes());
}

void Journal::append(const Step& step, std::span<const double> simulator_state) {
  Packer out;
  pack_step(step, simulator_state, out);
  add_record(kStep, out.bytes());
}

void Journal::end_episode(std::optional<bool> success, const std::string& outcome) {
  Packer out;
  out.number<int8_t>(success ? static_cast<int8_t>(*success) : int8_t{-1});
  out.text(outcome);
  add_record(kEnd, out.bytes());
}

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
  APO_ASSERT(bytes <= size());
  if (bytes >= size_) {
    buffer_.resize(static_cast<size_t>(bytes - size_));
    return;
  }
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
