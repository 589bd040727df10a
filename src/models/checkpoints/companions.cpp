#include "models/checkpoints/companions.h"

#include <algorithm>
#include <set>
#include <string>
#include <system_error>

#include "apo/base/error.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kLargest = 64 << 20;

bool is_processor_state(const fs::path& file) {
  const std::string name = file.filename().string();
  return (name.starts_with("policy_preprocessor") || name.starts_with("policy_postprocessor")) &&
         file.extension() == ".safetensors";
}

}  // namespace

bool is_companion(const fs::path& file) {
  static const std::set<std::string> kWeights{".safetensors", ".bin", ".pt",   ".pth",  ".ckpt",
                                              ".h5",          ".npz", ".onnx", ".gguf", ".msgpack"};
  std::error_code ignored;
  const std::string name = file.filename().string();
  return fs::is_regular_file(file, ignored) && !kWeights.contains(file.extension().string()) &&
         !name.ends_with(".index.json") && !name.starts_with(".") && name != "adapter_config.json" &&
         name != "DONE";
}

std::vector<fs::path> companions_of(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory))
    if (is_companion(entry.path()) || (is_processor_state(entry.path()) && entry.is_regular_file(ignored)))
      found.push_back(entry.path().filename());
  for (const char* folder : {"action_tokenizer", "assets"})
    if (fs::is_directory(directory / folder, ignored))
      for (const auto& entry : fs::recursive_directory_iterator(directory / folder))
        if (is_companion(entry.path())) {
          APO_CHECK(DataError, entry.file_size() <= kLargest, entry.path().string(),
                    ": expected a small file beside the weights, found ", entry.file_size(), " bytes");
          found.push_back(fs::relative(entry.path(), directory));
        }
  std::ranges::sort(found);
  return found;
}

bool is_state_projector(const std::filesystem::path& file) {
  return file.filename().string().starts_with("proprio_projector--");
}

}  // namespace apo::models
