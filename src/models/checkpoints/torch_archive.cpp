#include "models/checkpoints/torch_archive.h"

#include <torch/types.h>

#include <cstring>
#include <string_view>

#include "apo/base/error.h"
#include "base/lfs_pointer.h"
#include "models/checkpoints/mapped_file.h"
#include "models/checkpoints/plain_pickle.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kEndOfDirectory = 0x06054b50, kDirectoryEntry = 0x02014b50, kRecord = 0x04034b50;
constexpr size_t kEndBytes = 22, kEntryBytes = 46, kRecordBytes = 30, kLongestComment = 65535;
constexpr size_t kLargestPickle = 16 << 20;

// The uncompressed records of a zip archive by their names below its one folder.
class ZipRecords {
 public:
  ZipRecords(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {
    const size_t end = find_end();
    const uint64_t count = number(end + 10, 2), begin = number(end + 16, 4);
    check(count != 0xffff && begin != 0xffffffff, "is larger than 4 GB, which no projector is");
    size_t at = begin;
    for (uint64_t i = 0; i < count; ++i) at = add_entry(at);
  }

  const std::map<std::string, std::string_view>& records() const { return records_; }

 private:
  void check(bool good, const char* problem) const { APO_CHECK(DataError, good, where_, ": ", problem); }
  uint64_t number(size_t at, size_t size) const {
    check(at <= bytes_.size() && size <= bytes_.size() - at, "truncated or damaged: not a whole zip archive");
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes_[at + i]);
    return value;
  }
  size_t find_end() const {
    for (size_t back = kEndBytes; back <= bytes_.size() && back <= kEndBytes + kLongestComment; ++back)
      if (number(bytes_.size() - back, 4) == kEndOfDirectory) return bytes_.size() - back;
    throw DataError(concat(where_, ": expected what torch.save writes (a zip archive), found ",
                           bytes_.starts_with("\x80\x02")
                               ? "a pickle of before PyTorch 1.6; save it again with a later one"
                               : "something else; it may be truncated"));
  }
  size_t add_entry(size_t at) {
    check(number(at, 4) == kDirectoryEntry, "damaged: the archive's directory is broken");
    const uint64_t flags = number(at + 8, 2), method = number(at + 10, 2), size = number(at + 24, 4);
    const uint64_t name_size = number(at + 28, 2), local = number(at + 42, 4);
    const size_t next = at + kEntryBytes + name_size + number(at + 30, 2) + number(at + 32, 2);
    check(next <= bytes_.size(), "truncated or damaged: not a whole zip archive");
    const std::string_view name = bytes_.substr(at + kEntryBytes, name_size);
    check(method == 0 && (flags & 1) == 0 && number(at + 20, 4) == size,
          "compressed or encrypted, which torch.save does not write");
    check(number(local, 4) == kRecord, "damaged: a record is not where the archive's directory says");
    const size_t begin = local + kRecordBytes + number(local + 26, 2) + number(local + 28, 2);
    check(begin <= bytes_.size() && size <= bytes_.size() - begin, "truncated: a record reaches beyond it");
    records_[std::string(name.substr(std::min(name.find('/') + 1, name.size())))] =
        bytes_.substr(begin, size);
    return next;
  }

  std::string_view bytes_;
  const std::string& where_;
  std::map<std::string, std::string_view> records_;
};

// One past the largest place in its storage that a tensor has; 0 for one without numbers. Nothing: it is
// larger than any storage.
std::optional<int64_t> end_in_storage(const PickledTensor& tensor) {
  int64_t last = tensor.offset, numel = 1;
  bool empty = false;
  for (size_t i = 0; i < tensor.sizes.size(); ++i) {
    int64_t reach = 0;
    empty = empty || tensor.sizes[i] == 0;
    if (empty) continue;
    if (__builtin_mul_overflow(tensor.sizes[i] - 1, tensor.strides[i], &reach) ||
        __builtin_add_overflow(last, reach, &last) ||
        __builtin_mul_overflow(numel, tensor.sizes[i], &numel) || numel > tensor.storage_size)
      return {};
  }
  return empty ? 0 : last + 1;
}

at::Tensor tensor_of(const PickledTensor& described, const std::map<std::string, std::string_view>& records,
                     const std::string& where) {
  const auto record = records.find("data/" + described.storage);
  APO_CHECK(DataError, record != records.end(), where, ": the archive lacks its record data/",
            described.storage);
  int64_t bytes = 0;
  const auto item = static_cast<int64_t>(c10::elementSize(described.type));
  const bool fits = described.storage_size >= 0 && described.offset >= 0 &&
                    !__builtin_mul_overflow(described.storage_size, item, &bytes) &&
                    bytes <= static_cast<int64_t>(record->second.size());
  const auto end = end_in_storage(described);
  APO_CHECK(
      DataError,
      fits && described.sizes.size() == described.strides.size() && end && *end <= described.storage_size,
      where, ": expected ", at::IntArrayRef(described.sizes), " of ", described.type, " within a record of ",
      record->second.size(), " bytes, found numbers beyond it");
  at::Tensor storage = at::empty({described.storage_size}, described.type);
  std::memcpy(storage.mutable_data_ptr(), record->second.data(), static_cast<size_t>(bytes));
  return storage.as_strided(described.sizes, described.strides, described.offset)
      .clone(at::MemoryFormat::Contiguous);
}

}  // namespace

std::map<std::string, at::Tensor> read_torch_archive(const fs::path& path) {
  APO_CHECK(DataError, fs::exists(path), path.string(), ": no such file");
  const MappedFile file(path);
  const std::string_view bytes(file.bytes(), file.size());
  refuse_lfs_pointer(path, bytes.substr(0, 200));
  const std::string where = path.string();
  const ZipRecords zip(bytes, where);
  const auto pickle = zip.records().find("data.pkl"), order = zip.records().find("byteorder");
  APO_CHECK(DataError, pickle != zip.records().end(), where,
            ": expected what torch.save writes, found a zip archive without data.pkl");
  APO_CHECK(DataError, pickle->second.size() <= kLargestPickle, where, ": data.pkl: expected at most ",
            kLargestPickle, " bytes, found ", pickle->second.size());
  APO_CHECK(DataError, order == zip.records().end() || order->second == "little", where,
            ": byteorder: expected little, found ", std::string(order->second.substr(0, 20)));
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, described] : read_plain_pickle(pickle->second, where + ": data.pkl"))
    tensors[name] = tensor_of(described, zip.records(), where + ": tensor " + name);
  return tensors;
}

}  // namespace apo::models
