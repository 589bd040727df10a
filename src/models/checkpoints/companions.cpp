#include "models/checkpoints/companions.h"

#include <set>
#include <string>
#include <system_error>

namespace apo::models {

bool is_companion(const std::filesystem::path& file) {
  static const std::set<std::string> kWeights{".safetensors", ".bin", ".pt",   ".pth",  ".ckpt",
                                              ".h5",          ".npz", ".onnx", ".gguf", ".msgpack"};
  std::error_code ignored;
  const std::string name = file.filename().string();
  return std::filesystem::is_regular_file(file, ignored) && !kWeights.contains(file.extension().string()) &&
         !name.ends_with(".index.json") && !name.starts_with(".") && name != "adapter_config.json" &&
         name != "DONE";
}

bool is_state_projector(const std::filesystem::path& file) {
  return file.filename().string().starts_with("proprio_projector--");
}

}  // namespace apo::models
