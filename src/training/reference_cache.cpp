#include "training/reference_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/hash.h"
#include "apo/base/log.h"
#include "base/open_file.h"
#include "base/tensor_hash.h"
#include "base/upload.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;

constexpr std::array<char, 8> kMagic = {'A', 'P', 'O', 'R', 'O', 'W', 'S', '1'};
constexpr size_t kDigits = 32;
constexpr std::array<at::ScalarType, 4> kTypes = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};

// Before an answer's rows.
struct Head {
  std::array<char, 8> magic = kMagic;
  std::array<char, kDigits> key{}, check{};  // check: of key, sizes and rows
  uint32_t type = 0;                         // in kTypes
  uint32_t rows = 0, columns = 0;
  uint32_t own = 0;  // of all that stands before it

  uint32_t hash() const {
    ContentHash hash;
    hash.add(this, offsetof(Head, own));
    return static_cast<uint32_t>(std::stoul(hash.text().substr(0, 8), nullptr, 16));
  }
  bool is_whole() const {
    constexpr uint32_t kMost = 1 << 24;
    return own == hash() && magic == kMagic && type < kTypes.size() && rows > 0 && rows < kMost &&
           columns > 0 && columns < kMost;
  }
  int64_t bytes() const {
    return int64_t{rows} * columns * static_cast<int64_t>(c10::elementSize(kTypes.at(type)));
  }
};
static_assert(sizeof(Head) == 88);

std::array<char, kDigits> check_of(const Head& head, const void* rows) {
  ContentHash hash;
  hash.add(head.key.data(), head.key.size());
  for (const uint32_t number : {head.type, head.rows, head.columns}) hash.add_number(number);
  hash.add(rows, static_cast<size_t>(head.bytes()));
  std::array<char, kDigits> digits{};
  std::ranges::copy(hash.text(), digits.begin());
  return digits;
}

// Contiguous on the CPU; undefined stays so.
at::Tensor at_hand(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.to(at::kCPU).contiguous() : tensor;
}

// Those of a row's ids that are no padding, wherever that is.
at::Tensor unpadded(const at::Tensor& ids, const at::Tensor& mask, int64_t row) {
  const at::Tensor all = ids.select(0, row);
  return mask.defined() ? all.masked_select(mask.select(0, row)) : all;
}

}  // namespace

std::vector<AnswerKey> answer_keys(const std::vector<std::string>& pictures, const models::PolicyInput& input,
                                   const models::ActionTokens& tokens) {
  APO_ASSERT(tokens.ids.size(0) == std::ssize(pictures));
  const at::Tensor prompt = at_hand(input.prompt), prompt_mask = at_hand(input.prompt_mask),
                   state = at_hand(input.state), ids = at_hand(tokens.ids), mask = at_hand(tokens.mask);
  std::vector<AnswerKey> keys;
  for (int64_t row = 0; row < std::ssize(pictures); ++row) {
    ContentHash hash;
    hash.add_text(pictures[static_cast<size_t>(row)]);
    hash.add_number(prompt.defined());
    if (prompt.defined()) add_tensor(hash, unpadded(prompt, prompt_mask, row));
    hash.add_number(state.defined());
    if (state.defined()) add_tensor(hash, state[row]);
    add_tensor(hash, unpadded(ids, mask, row));
    int64_t num_tokens = ids.size(1);
    while (num_tokens > 0 && !mask.index({row, num_tokens - 1}).item<bool>()) --num_tokens;
    keys.push_back({.text = hash.text(), .num_tokens = num_tokens});
  }
  return keys;
}

// A file, read where it is asked, and written at its end.
class ReferenceCache::Part {
 public:
  Part(fs::path path, int flags) : path_(std::move(path)), is_writable_((flags & O_RDWR) != 0) {
    descriptor_ = ::open(path_.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    struct stat status {};
    if (descriptor_ < 0 || (::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode))) return;
    ::close(std::exchange(descriptor_, -1));
    errno = EINVAL;  // a pipe, say
  }
  ~Part() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  const fs::path& path() const { return path_; }
  int64_t size() const {
    struct stat status {};
    return ::fstat(descriptor_, &status) == 0 ? status.st_size : 0;
  }
  bool read(int64_t offset, void* bytes, int64_t count) const {
    for (char* to = static_cast<char*>(bytes); count > 0;) {
      const ssize_t got = ::pread(descriptor_, to, static_cast<size_t>(count), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      to += got, offset += got, count -= got;
    }
    return true;
  }
  // Whether it can be added to, and no other process does, nor will while this one lives.
  bool lock() const { return is_writable_ && ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0; }
  void unlock() const { ::flock(descriptor_, LOCK_UN); }
  // What is added follows what was read.
  bool cut() const {
    return (end >= size() || ::ftruncate(descriptor_, end) == 0) &&
           ::lseek(descriptor_, end, SEEK_SET) == end;
  }
  // RunError: then nothing is added, or the beginning of it.
  void append(const std::string& bytes) const {
    std::string_view rest = bytes;
    write_all(descriptor_, rest, path_);
  }

  int64_t end = 0;          // of what was read
  bool is_damaged = false;  // there

 private:
  fs::path path_;
  bool is_writable_;
  int descriptor_ = -1;
};

ReferenceCache::ReferenceCache(const fs::path& directory, const std::string& reference)
    : directory_(directory / reference) {
  std::error_code error;
  fs::create_directories(directory_, error);
  std::vector<fs::path> found;
  if (!error)
    for (fs::directory_iterator entry(directory_, error), end; !error && entry != end; entry.increment(error))
      if (entry->path().extension() == ".rows") found.push_back(entry->path());
  APO_CHECK(RunError, !error, "reference.cache: ", directory_.string(),
            ": expected a directory that can be made and read: ", error.message());
  std::ranges::sort(found);
  for (const fs::path& path : found) {
    auto part = std::make_unique<Part>(path, O_RDWR);
    if (!part->is_open()) part = std::make_unique<Part>(path, O_RDONLY);
    if (!part->is_open()) {
      log_warn("reference.cache: ", path.string(),
               ": expected a file that can be read; it is left out: ", strerror(errno));
      continue;
    }
    parts_.push_back(std::move(part));
    read_on(parts_.size() - 1);
  }
}

ReferenceCache::~ReferenceCache() = default;

// What was added since it was read last.
void ReferenceCache::read_on(size_t number) {
  Part& part = *parts_[number];
  constexpr auto kHead = static_cast<int64_t>(sizeof(Head));
  const int64_t size = part.size();
  for (Head head; size - part.end >= kHead && part.read(part.end, &head, kHead);) {
    part.is_damaged = !head.is_whole();
    if (part.is_damaged || head.bytes() > size - part.end - kHead) break;
    // the later one: it was asked anew where the one before was damaged
    places_.insert_or_assign(std::string(head.key.data(), kDigits), Place{number, part.end});
    part.end += kHead + head.bytes();
  }
  if (part.is_damaged)
    log_warn(
        "reference.cache: ", part.path().string(), ": byte ", part.end,
        ": damaged: expected an answer, found something else; from there on it is not read, and the file "
        "may be removed");
}

// As it was kept; undefined: it was not, or not so.
at::Tensor ReferenceCache::find(const AnswerKey& key) {
  const auto found = places_.find(key.text);
  if (found == places_.end()) return {};
  const Part& part = *parts_[found->second.part];
  const int64_t offset = found->second.offset;
  Head head;
  if (part.read(offset, &head, sizeof head) && head.is_whole() && head.rows == key.num_tokens &&
      (!like_.defined() || (head.columns == like_.size(1) && kTypes[head.type] == like_.scalar_type()))) {
    at::Tensor rows = at::empty({head.rows, head.columns}, kTypes[head.type]);
    if (part.read(offset + static_cast<int64_t>(sizeof head), rows.data_ptr(), head.bytes()) &&
        std::string_view(head.key.data(), kDigits) == key.text &&
        head.check == check_of(head, rows.const_data_ptr()))
      return rows;
  }
  if (!told_of_damage_)
    log_warn("reference.cache: ", part.path().string(), ": byte ", offset,
             ": damaged: expected the answer that was written, found another; such answers are asked anew");
  told_of_damage_ = true;
  places_.erase(found);
  return {};
}

// One that is kept is asked again, which tells the head, too. Rows of half precision scatter.
void ReferenceCache::check(const std::vector<at::Tensor>& rows, const Ask& ask) {
  const auto row = std::ranges::find_if(rows, [](const at::Tensor& found) { return found.defined(); });
  if (row == rows.end()) return;
  const Logits asked = ask({row - rows.begin()}).logits;
  logits_of_ = asked.of_kept();
  const at::Tensor now = at_hand(asked.kept())[0].narrow(0, 0, row->size(0));
  like_ = now.narrow(0, 0, 0);
  const double tolerance = c10::elementSize(now.scalar_type()) < sizeof(float) ? 0.1 : 1e-3;
  const bool equal = row->sizes() == now.sizes() && row->scalar_type() == now.scalar_type() &&
                     (now.to(at::kDouble) - row->to(at::kDouble)).abs().max().item<double>() <=
                         tolerance * std::max(1.0, now.to(at::kDouble).abs().max().item<double>());
  if (equal) return;
  log_warn("reference.cache: ", directory_.string(),
           ": the reference says something else than what is kept of it; nothing is read or written there, "
           "and the directory may be removed");
  places_.clear();
  writes_ = false;
}

// One that nobody adds to at the moment, else a new one.
ReferenceCache::Part& ReferenceCache::own_part() {
  if (has_own_) return *parts_[own_];
  for (own_ = 0; own_ < parts_.size(); ++own_) {
    Part& part = *parts_[own_];
    if (part.is_damaged || !part.lock()) continue;
    read_on(own_);  // what another one added meanwhile
    has_own_ = !part.is_damaged && part.cut();
    if (has_own_) return part;
    part.unlock();
  }
  for (size_t number = 0; !has_own_; ++number) {
    auto part =
        std::make_unique<Part>(directory_ / concat("part-", number, ".rows"), O_RDWR | O_CREAT | O_EXCL);
    APO_CHECK(RunError, part->is_open() || errno == EEXIST, part->path().string(),
              ": cannot write: ", strerror(errno));
    // another one that begins may have taken it; where there are no locks, it cannot
    has_own_ = part->is_open() && (part->lock() || errno != EWOULDBLOCK);
    if (!has_own_) continue;
    parts_.push_back(std::move(part));
  }
  return *parts_[own_];
}

void ReferenceCache::keep(const std::string& key, const at::Tensor& rows) {
  if (!writes_ || rows.numel() == 0 || places_.contains(key)) return;
  Head head;
  head.type = static_cast<uint32_t>(std::ranges::find(kTypes, rows.scalar_type()) - kTypes.begin());
  head.rows = static_cast<uint32_t>(rows.size(0)), head.columns = static_cast<uint32_t>(rows.size(1));
  APO_ASSERT(head.type < kTypes.size() && rows.is_contiguous() && key.size() == kDigits);
  std::ranges::copy(key, head.key.begin());
  head.check = check_of(head, rows.const_data_ptr());
  head.own = head.hash();
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  bytes.append(static_cast<const char*>(rows.const_data_ptr()), static_cast<size_t>(head.bytes()));
  try {
    Part& part = own_part();
    part.append(bytes);
    places_[key] = {own_, part.end};
    part.end += std::ssize(bytes);
  } catch (const RunError& error) {
    writes_ = false;
    log_warn("reference.cache: ", error.what(), "; from here on the reference is asked again");
  }
}

models::Score ReferenceCache::score(std::span<const AnswerKey> keys, int64_t num_tokens, at::Device device,
                                    const Ask& ask) {
  const auto find_all = [&] {
    std::vector<at::Tensor> rows;
    for (const AnswerKey& key : keys) rows.push_back(find(key));
    return rows;
  };
  std::vector<at::Tensor> rows = find_all();
  if (!logits_of_) {
    check(rows, ask);
    rows = find_all();
  }
  std::vector<int64_t> missing;
  for (int64_t i = 0; i < std::ssize(rows); ++i)
    if (!rows[static_cast<size_t>(i)].defined()) missing.push_back(i);
  num_wanted_ += std::ssize(keys);
  num_found_ += std::ssize(keys) - std::ssize(missing);
  if (!missing.empty()) {
    const models::Score asked = ask(missing);
    logits_of_ = asked.logits.of_kept();
    const at::Tensor kept = at_hand(asked.logits.kept());
    like_ = kept[0].narrow(0, 0, 0);
    for (int64_t i = 0; i < std::ssize(missing); ++i) {
      const auto row = static_cast<size_t>(missing[static_cast<size_t>(i)]);
      rows[row] = kept[i].narrow(0, 0, keys[row].num_tokens);  // contiguous: the first of them
      keep(keys[row].text, rows[row]);
    }
    if (missing.size() == keys.size()) return asked;
  }
  const at::Tensor all = at::zeros({std::ssize(keys), num_tokens, like_.size(1)}, like_.options());
  for (int64_t i = 0; i < std::ssize(rows); ++i) {
    const at::Tensor& row = rows[static_cast<size_t>(i)];
    all[i].narrow(0, 0, row.size(0)).copy_(row);
  }
  return {.logits = logits_of_(upload(all, device)), .mismatched_logits = {}};
}

}  // namespace apo::training
