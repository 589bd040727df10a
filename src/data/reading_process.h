// Reading HDF5 files in a process of its own.
//
// A file's bytes are anybody's, and libhdf5 1.10 does not hold against all of them: changed ones make it read
// and write outside its memory or never return. So the calls of `Group` and `Array` that read run in a forked
// process that does nothing else and has nothing to lose. Where it dies or does not come to an end, the file
// is damaged (a DataError), and the next call gets a fresh process. A call is the address of a function that
// both processes have, and packed arguments; the other process answers with a packed result or with the error
// that the function threw.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "apo/base/error.h"

namespace apo::data::hdf5 {

class Packer {
 public:
  template <class T>
  void put(const T& value) {
    if constexpr (requires { value.pack(*this); }) {
      value.pack(*this);
    } else {
      static_assert(std::is_trivially_copyable_v<T>);
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  }
  void put(const std::string& text) {
    put<uint64_t>(text.size());
    bytes_ += text;
  }
  template <class T>
  void put(const std::optional<T>& value) {
    put<bool>(value.has_value());
    if (value) put(*value);
  }
  template <class A, class B>
  void put(const std::pair<A, B>& pair) {
    put(pair.first);
    put(pair.second);
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put<uint64_t>(values.size());
    if constexpr (std::is_arithmetic_v<T>) {
      bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    } else {
      for (const T& value : values) put(value);
    }
  }
  /// Room for so many bytes, to be filled in place.
  std::span<uint8_t> room(size_t size) {
    const size_t begin = bytes_.size();
    bytes_.resize(begin + size);
    return {reinterpret_cast<uint8_t*>(bytes_.data()) + begin, size};
  }
  std::string& bytes() { return bytes_; }

 private:
  std::string bytes_;
};

/// Takes out what a Packer put in, in the same order. The other end is a copy of this process that may have
/// been damaged by a file: lengths are checked (DataError).
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  T take() {
    return take_as(static_cast<T*>(nullptr));
  }

 private:
  std::string_view raw(uint64_t size) {
    APO_CHECK(DataError, size <= bytes_.size(), "damaged HDF5 file: what was read of it is not whole");
    const std::string_view part = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return part;
  }
  template <class T>
  T take_as(T*) {
    if constexpr (requires(Unpacker & in) { T::unpack(in); }) {
      return T::unpack(*this);
    } else {
      static_assert(std::is_trivially_copyable_v<T>);
      T value;
      std::memcpy(&value, raw(sizeof value).data(), sizeof value);
      return value;
    }
  }
  std::string take_as(std::string*) { return std::string(raw(take<uint64_t>())); }
  template <class T>
  std::optional<T> take_as(std::optional<T>*) {
    if (!take<bool>()) return std::nullopt;
    return take<T>();
  }
  template <class A, class B>
  std::pair<A, B> take_as(std::pair<A, B>*) {
    A a = take<A>();
    return {std::move(a), take<B>()};
  }
  template <class T>
  std::vector<T> take_as(std::vector<T>*) {
    const auto size = take<uint64_t>();
    APO_CHECK(DataError, size <= bytes_.size(), "damaged HDF5 file: what was read of it is not whole");
    std::vector<T> values;
    if constexpr (std::is_arithmetic_v<T>) {
      values.resize(size);
      const std::string_view part = raw(size * sizeof(T));
      if (size > 0) std::memcpy(values.data(), part.data(), part.size());
    } else {
      for (uint64_t i = 0; i < size; ++i) values.push_back(take<T>());
    }
    return values;
  }

  std::string_view bytes_;
};

/// A file that the reading process has open for as long as this lives.
class GuardedFile {
 public:
  /// `file` as messages name it. Opens nothing yet.
  explicit GuardedFile(std::string file);
  ~GuardedFile();
  GuardedFile(const GuardedFile&) = delete;
  GuardedFile& operator=(const GuardedFile&) = delete;

  using Function = void (*)(Unpacker& in, Packer& out);
  /// Runs `function` on the packed arguments in the reading process. The error that it throws, or DataError
  /// naming `where` if the process did not outlive it. A process that neither answers nor computes is told in
  /// the log; an interrupt ends the wait for it (Interrupted). With `into`, the result is exactly these
  /// bytes.
  std::string run(Function function, const Packer& arguments, const std::string& where,
                  std::span<uint8_t> into = {}) const;

  const std::string& file() const { return file_; }

 private:
  std::string file_, path_;
  mutable std::vector<int64_t> identity_;  // of the file that was opened; empty before
  int64_t number_ = 0;
  mutable std::string broken_;  // what ended the reading process
};

/// Runs `work`, which changes what is in `file`, in a forked process and waits for its end: the same
/// protection for a file that is written into. The error that it throws; DataError if it does not outlive it
/// or takes longer.
void run_apart(const std::function<void()>& work, const std::string& file, int64_t seconds);
/// Device, inode, size and time of change: what tells a file from another one of its name. Empty if there is
/// none.
std::vector<int64_t> file_identity(const std::string& path);
/// True in the reading process: one thread, and no locks of the other one's.
bool in_reading_process();
/// True in a reading process that another one started, and which alone speaks to people.
bool answers_another_process();
/// Makes this process, which has one thread, its own reading process; for fuzzers, which watch what they run.
void read_here();
/// The reading process, 0 before the first call; for tests.
pid_t reading_process();
/// How often it was asked for something; for tests.
int64_t calls_made();
/// How many seconds of a processor a call may cost before it counts as endless; for tests. 20 at first.
void set_reading_limit(int seconds);

}  // namespace apo::data::hdf5
