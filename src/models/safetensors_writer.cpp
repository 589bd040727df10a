#include <torch/types.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/safetensors.h"
#include "models/json_file.h"
#include "models/safetensors_types.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 14> kTypes{{{"BOOL", at::kBool},
                                                                              {"U8", at::kByte},
                                                                              {"I8", at::kChar},
                                                                              {"F8_E4M3", at::kFloat8_e4m3fn},
                                                                              {"F8_E5M2", at::kFloat8_e5m2},
                                                                              {"I16", at::kShort},
                                                                              {"U16", at::kUInt16},
                                                                              {"F16", at::kHalf},
                                                                              {"BF16", at::kBFloat16},
                                                                              {"I32", at::kInt},
                                                                              {"U32", at::kUInt32},
                                                                              {"F32", at::kFloat},
                                                                              {"I64", at::kLong},
                                                                              {"F64", at::kDouble}}};

}  // namespace

std::optional<at::ScalarType> scalar_type_of(std::string_view dtype) {
  for (const auto& [name, type] : kTypes)
    if (name == dtype) return type;
  return std::nullopt;
}

std::string_view dtype_of(at::ScalarType type) {
  for (const auto& [name, candidate] : kTypes)
    if (candidate == type) return name;
  return {};
}

std::string known_dtypes() {
  std::string list;
  for (const auto& [name, type] : kTypes) list += (list.empty() ? "" : ", ") + std::string(name);
  return list;
}

void write_safetensors(const fs::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    APO_CHECK(RunError, name != "__metadata__" && !header.contains(name), path.string(),
              ": two tensors called ", name);
    const std::string_view dtype = dtype_of(tensor.scalar_type());
    APO_CHECK(RunError, !dtype.empty(), path.string(), ": tensor ", name, ": safetensors has no name for ",
              tensor.scalar_type());
    const uint64_t bytes = static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
    header[name] = {{"dtype", std::string(dtype)},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins aligned

  std::string bytes;
  bytes.reserve(8 + text.size() + offset);
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(text.size() >> (8 * i) & 0xff);
  bytes += text;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor value = tensor.detach().to(at::kCPU).contiguous();
    bytes.append(static_cast<const char*>(value.const_data_ptr()), value.nbytes());
  }
  write_file_atomic(path, bytes);
}

void write_sharded_safetensors(const fs::path& directory, const NamedTensors& tensors,
                               int64_t max_shard_bytes) {
  APO_CHECK(ConfigError, max_shard_bytes >= 1, "max_shard_bytes: expected at least 1, found ",
            max_shard_bytes);
  std::vector<NamedTensors> shards(1);
  int64_t filled = 0, total = 0;
  for (const auto& [name, tensor] : tensors) {
    const int64_t bytes = tensor.numel() * static_cast<int64_t>(tensor.element_size());
    if (!shards.back().empty() && filled + bytes > max_shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().emplace_back(name, tensor);
    filled += bytes;
    total += bytes;
  }
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = total;
  index["weight_map"] = nlohmann::ordered_json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    write_safetensors(directory / name, shards[i], {{"format", "pt"}});
    for (const auto& [tensor, value] : shards[i]) index["weight_map"][tensor] = name;
  }
  write_json(directory / "model.safetensors.index.json", index);
}

}  // namespace apo::models
