// A library that is loaded while the program runs: what may or may not be installed.
#pragma once

#include <string>

namespace apo {

class SharedLibrary {
 public:
  enum class Symbols { hidden, visible };  ///< to libraries that are loaded later

  /// Loads it by path, or by name as the loader searches. RunError with the loader's reason.
  explicit SharedLibrary(const std::string& name, Symbols symbols = Symbols::hidden);
  ~SharedLibrary();
  SharedLibrary(SharedLibrary&& other) noexcept;
  SharedLibrary& operator=(SharedLibrary&&) = delete;

  const std::string& name() const { return name_; }
  /// Points `to` to the function or variable of that name. RunError if it has none.
  template <class Pointer>
  void find(Pointer& to, const char* symbol) const {
    to = reinterpret_cast<Pointer>(address(symbol));
  }
  void* address(const char* symbol) const;
  /// It stays loaded: whatever has run leaves threads' destructors and exit handlers behind.
  void keep() { kept_ = true; }

 private:
  std::string name_;
  void* handle_ = nullptr;
  bool kept_ = false;
};

/// The loader's reason for the last failure.
std::string loader_error();

}  // namespace apo
