// HDF5's lock, identifiers that close themselves, and datasets open for reading (data/hdf5.h has the rest).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace apo::data::hdf5 {

/// Holds the library's lock and keeps its own error printing quiet; may be nested.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  int (*print_)(int64_t, void*) = nullptr;
  void* print_data_ = nullptr;
};

/// Owns one HDF5 identifier.
class Handle {
 public:
  explicit Handle(int64_t id = -1) : id_(id) {}
  ~Handle();
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  int64_t id() const { return id_; }

 private:
  int64_t id_;
};

class GuardedFile;
class Packer;
class Unpacker;
struct Elsewhere;  // makes calls in the reading process
struct Listing;

enum class Kind { integer, floating, text, other };

/// One dataset, open for reading. Arrays are converted to the asked type by HDF5.
class Array {
 public:
  /// "FILE: /data/demo_0/actions"
  std::string where() const { return file_ + ": " + path_; }
  Kind kind() const { return kind_; }
  /// uint8.
  bool is_byte() const {
    return kind_ == Kind::integer && element_bytes_ == 1 && !is_signed_ && !is_enumeration_;
  }
  /// Each element is bytes, of any number or of a fixed one: what recorders put encoded pictures into.
  bool holds_bytes() const { return holds_bytes_; }
  /// False for an array that was made and never filled; it reads as its fill value.
  bool is_written() const;
  const std::vector<int64_t>& shape() const { return shape_; }
  /// "uint8 [3, 64, 64, 3]", for messages.
  std::string describe() const;

  /// DataError unless kind and rank are these and what compresses the array is known here.
  void expect(Kind kind, size_t rank, const char* what) const;
  /// DataError unless what compresses the array is known here.
  void check_filters() const;
  /// The whole array. DataError for unreadable data, and for a size that the file cannot hold.
  std::vector<float> floats() const;
  std::vector<int64_t> integers() const;
  /// Row `row` along the first dimension of a uint8 array; `bytes` is exactly one row.
  void read_row(int64_t row, std::span<uint8_t> bytes) const;
  /// The whole uint8 array.
  void read_bytes(std::span<uint8_t> bytes) const;
  /// Row `row` along the first dimension, or all if `row` < 0, as numbers; or its bytes, of an array of uint8
  /// or of one that `holds_bytes`.
  std::vector<float> row_floats(int64_t row) const;
  std::vector<uint8_t> row_bytes(int64_t row) const;
  float fill() const;
  /// A text scalar (or array of one text); UTF-8, or else taken as Latin-1.
  std::string text() const;
  std::vector<std::string> texts() const;

 private:
  friend class Group;
  friend struct Elsewhere;
  Array(Handle handle, std::string file, std::string path);
  using Description = std::pair<std::vector<int64_t>, std::string>;  // all that is known without reading
  Array(std::shared_ptr<const GuardedFile> guard, std::string path, const Description& description);
  template <auto function, class... Arguments>
  auto elsewhere(const Arguments&... arguments) const;
  Description description() const;
  static void answer_bytes(Unpacker& in, Packer& out);
  void ask_bytes(int64_t row, std::span<uint8_t> bytes) const;
  int64_t count() const;
  int64_t count_of_row(int64_t row) const;
  size_t room_of_row(int64_t row, size_t element_bytes) const;
  void check_size(int64_t bytes) const;
  void read_selected(int64_t row, int64_t memory_type, void* out) const;
  void read_all(int64_t memory_type, void* out, int64_t bytes) const;

  std::shared_ptr<const GuardedFile> guard_;  // or else the handle is this process's own
  Handle handle_;
  std::string file_, path_;
  Kind kind_ = Kind::other;
  bool is_signed_ = false, is_enumeration_ = false, holds_bytes_ = false;
  bool filters_known_ = false, is_written_ = false;  // of a guarded array
  std::string other_;                                // what it is, if it is of kind other
  int64_t element_bytes_ = 0;
  std::vector<int64_t> shape_;
};

}  // namespace apo::data::hdf5
