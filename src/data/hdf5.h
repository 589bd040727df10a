// HDF5 files as groups and arrays: handles that close themselves, and errors that name file and dataset path.
//
// HDF5 1.10 is not thread-safe: every call here holds one process-wide lock (a `Session`), and nothing else
// in the house may call HDF5. Whoever makes several calls that belong together holds a Session of its own
// around them.
// What is read of a file opened with `Group::open` is read by another process (data/reading_process.h): bytes
// that make HDF5 crash or loop are a DataError here. A function that reads begins with `if (guard_) return
// elsewhere<&Class::function>(...)`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/hdf5_array.h"

namespace apo::data::hdf5 {

/// An array of uint8 [S, ...], chunked by rows, that is filled one row after the other.
class RowWriter {
 public:
  /// RunError naming file, path and the library's reason.
  void append(std::span<const uint8_t> row);

 private:
  friend class Group;
  RowWriter(Handle array, std::string where, const std::vector<int64_t>& shape);
  Handle array_;
  std::string where_;
  std::vector<int64_t> shape_;
  int64_t next_ = 0;
};

/// One group of an open file (the file closes with the last of its groups and arrays).
class Group {
 public:
  /// The root of an existing file, read-only. DataError naming the path: missing, a directory, not HDF5,
  /// truncated.
  static Group open(const std::filesystem::path& path);
  /// The root of a new, empty file (an existing one is replaced) or of an existing one, for writing.
  static Group create(const std::filesystem::path& path);
  static Group open_for_writing(const std::filesystem::path& path);

  const std::string& file() const { return file_; }
  std::string where(const std::string& name = "") const;

  /// Names in natural order (demo_2 before demo_10).
  std::vector<std::string> names() const;
  bool has(const std::string& name) const;
  bool is_group(const std::string& name) const;
  /// DataError if it is missing, of the other kind, or lives in another file (external links, external or
  /// virtual storage are never followed).
  Group group(const std::string& name) const;
  Array array(const std::string& name) const;

  std::optional<std::string> text_attribute(const std::string& name) const;
  std::optional<int64_t> integer_attribute(const std::string& name) const;
  /// An integer, floating-point number or bool.
  std::optional<double> number_attribute(const std::string& name) const;
  /// What one value of it is (other, too, if it is not one value); nothing if it is not there.
  std::optional<Kind> attribute_kind(const std::string& name) const;
  std::vector<std::string> attribute_names() const;
  /// All attributes that are text or single numbers, as text.
  std::vector<std::pair<std::string, std::string>> attributes() const;
  /// The hash of these arrays of numbers or texts and, with @ before it, attributes (data/seal.h says how).
  /// DataError if one is missing.
  std::string content_hash(const std::vector<std::string>& names) const;

  /// Writing; RunError naming file, path and the library's reason.
  Group create_group(const std::string& name);
  /// One that `set_long_attribute` can be called on; HDF5 before 1.8 cannot open it.
  Group create_group_for_long_attributes(const std::string& name);
  void write(const std::string& name, std::span<const float> values, const std::vector<int64_t>& shape);
  void write(const std::string& name, std::span<const double> values, const std::vector<int64_t>& shape);
  void write(const std::string& name, std::span<const int8_t> values, const std::vector<int64_t>& shape);
  void write(const std::string& name, std::span<const int64_t> values, const std::vector<int64_t>& shape);
  /// Chunked by rows; `gzip` 1-9 compresses, 0 does not.
  void write(const std::string& name, std::span<const uint8_t> values, const std::vector<int64_t>& shape,
             bool row_chunks = false, int gzip = 0);
  /// An array whose rows are written later, without all of them in memory.
  RowWriter make_rows(const std::string& name, const std::vector<int64_t>& shape);
  /// An array of float32, or of uint8, that is never filled.
  void make_unwritten(const std::string& name, const std::vector<int64_t>& shape, bool bytes = false);
  void write_text(const std::string& name, const std::string& text);
  /// [N] texts of one fixed length.
  void write_texts(const std::string& name, const std::vector<std::string>& texts);
  void set_attribute(const std::string& name, const std::string& text);
  /// A text of any length, to a group that was made for such.
  void set_long_attribute(const std::string& name, const std::string& text);
  void set_attribute(const std::string& name, int64_t value);
  void link_soft(const std::string& name, const std::string& target);
  void link_external(const std::string& name, const std::string& file, const std::string& target);
  void remove(const std::string& name);
  void remove_attribute(const std::string& name);
  /// Hands the file's data to the system: until then HDF5 keeps what it likes, and what does not fit on the
  /// disk is lost without a word when the file is closed. RunError (disk full); the file is then of no use.
  void flush();

 private:
  friend struct Elsewhere;
  Group(Handle handle, std::string file, std::string path);
  Group(std::shared_ptr<const GuardedFile> guard, std::string path);
  static Group open_here(const std::filesystem::path& path, const std::string& file);
  template <auto function, class... Arguments>
  auto elsewhere(const Arguments&... arguments) const;
  bool check_group(const std::string& name) const;
  Listing make_listing() const;
  const Listing& listing() const;
  bool is_listed(const std::string& name) const;
  std::pair<std::vector<int64_t>, std::string> describe_array(const std::string& name) const;
  std::string path_of(const std::string& name) const;
  void check_link(const std::string& name) const;
  Handle create_array(const std::string& name, int64_t file_type, const std::vector<int64_t>& shape,
                      bool row_chunks, int gzip);
  void write_any(const std::string& name, int64_t file_type, int64_t memory_type, const void* values,
                 size_t count, const std::vector<int64_t>& shape, bool row_chunks, int gzip);
  void set_any(const std::string& name, int64_t type, const void* value);

  std::shared_ptr<const GuardedFile> guard_;        // or else the handle is this process's own
  mutable std::shared_ptr<const Listing> listing_;  // of a guarded group, once it was needed
  Handle handle_;
  std::string file_, path_;
};

/// How the library's type is read, what one of kind other is called, and whether its elements are bytes.
Kind kind_of(int64_t type);
std::string describe_other(int64_t type);
/// False if the number's bits would lie outside of its bytes, where HDF5 reads whatever is there.
bool is_plausible_number(int64_t type);
bool holds_bytes(int64_t type);
/// The text, or what it is in UTF-8 if it is Latin-1, with a warning once a file. DataError naming `where`
/// for other bytes.
std::string as_utf8(std::string text, const std::string& where);
/// The order in which people count: digits compare as numbers.
bool natural_less(const std::string& a, const std::string& b);
/// Closes what the reading process has open of GuardedFile `number`.
void forget_file(int64_t number);
/// What HDF5 says of the last failure, in its own words.
std::string reason();
/// Whether the path names a trajectory file, by its ending (*.hdf5, *.h5), and no directory of them.
bool names_a_file(const std::filesystem::path& path);

}  // namespace apo::data::hdf5
