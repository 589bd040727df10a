// The bytes of one execution as a file in memory, for readers that want a path.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace apo::fuzz {

class InputFile {
 public:
  explicit InputFile(const std::string& ending) {
    const char* memory = std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";
    path_ = std::string(memory) + "/apo-fuzz-" + std::to_string(::getpid()) + ending;
  }
  ~InputFile() { std::remove(path_.c_str()); }
  const std::string& write(const uint8_t* data, size_t size) const {
    FILE* file = std::fopen(path_.c_str(), "wb");
    if (!file || std::fwrite(data, 1, size, file) != size || std::fclose(file) != 0)
      throw std::runtime_error("cannot write " + path_);
    return path_;
  }

 private:
  std::string path_;
};

}  // namespace apo::fuzz
