#include <torch/types.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <vector>

#include "apo/base/atomic_file.h"
#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "models/checkpoints/safetensors_types.h"

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

const std::map<std::string, std::string> kMetadata{{"format", "pt"}};  // transformers insists on it

std::vector<TensorDeclaration> declarations_of(const NamedTensors& tensors) {
  std::vector<TensorDeclaration> declarations;
  for (const auto& [name, tensor] : tensors)
    declarations.push_back({.name = name, .type = tensor.scalar_type(), .shape = tensor.sizes().vec()});
  return declarations;
}

// What stands before the data: the length of the header's JSON, and that, padded so that the data begins
// aligned.
std::string header_of(const fs::path& path, const std::vector<TensorDeclaration>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::set<std::string> names{"__metadata__"};
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const TensorDeclaration& tensor : tensors) {
    APO_CHECK(RunError, names.insert(tensor.name).second, path.string(), ": two tensors called ",
              tensor.name);
    const std::string_view dtype = dtype_of(tensor.type);
    APO_CHECK(RunError, !dtype.empty(), path.string(), ": tensor ", tensor.name,
              ": safetensors has no name for ", tensor.type);
    header[tensor.name] = {{"dtype", std::string(dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return length + text;
}

// The memory of `value`, which is on the CPU and contiguous.
std::string_view bytes_of(const at::Tensor& value) {
  return {static_cast<const char*>(value.const_data_ptr()), value.nbytes()};
}

// In order, each as full as it goes; at least one.
std::vector<std::vector<TensorDeclaration>> shards_of(std::vector<TensorDeclaration> tensors,
                                                      int64_t max_shard_bytes) {
  std::vector<std::vector<TensorDeclaration>> shards(1);
  int64_t filled = 0;
  for (TensorDeclaration& tensor : tensors) {
    const int64_t bytes = tensor.bytes();
    if (!shards.back().empty() && filled + bytes > max_shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    filled += bytes;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

// The length of a header and its first byte, of a file that may have got no further.
bool begins_as_safetensors(std::string_view head) {
  constexpr std::string_view kUpperLength("\0\0\0\0", 4);
  return head.size() >= 8 && head.substr(4, 4) == kUpperLength && (head.size() == 8 || head[8] == '{');
}

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
  std::vector<std::string_view> names;
  for (const auto& [name, type] : kTypes) names.push_back(name);
  return join(names);
}

int64_t TensorDeclaration::bytes() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count * static_cast<int64_t>(c10::elementSize(type));
}

struct SafetensorsWriter::State {
  std::vector<TensorDeclaration> tensors;
  size_t written = 0;
  AtomicFile file;
};

SafetensorsWriter::SafetensorsWriter(const fs::path& path, std::vector<TensorDeclaration> tensors,
                                     const std::map<std::string, std::string>& metadata) {
  const std::string text = header_of(path, tensors, metadata);
  state_ = std::unique_ptr<State>(
      new State{.tensors = std::move(tensors), .file = AtomicFile(path, begins_as_safetensors)});
  state_->file.write(text);
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(const at::Tensor& tensor) {
  APO_ASSERT(state_->written < state_->tensors.size());
  const TensorDeclaration& declared = state_->tensors[state_->written++];
  APO_ASSERT(tensor.scalar_type() == declared.type && tensor.sizes() == at::IntArrayRef(declared.shape));
  const at::Tensor value = tensor.detach().to(at::kCPU).contiguous();
  if (value.numel() > 0) state_->file.write(bytes_of(value));
}

void SafetensorsWriter::finish() {
  APO_ASSERT(state_->written == state_->tensors.size());
  state_->file.commit();
}

struct ShardedSafetensorsWriter::State {
  fs::path directory;
  std::vector<std::vector<TensorDeclaration>> shards;
  std::map<std::string, std::string> metadata;
  bool with_index = true;
  size_t current = 0, written = 0;  // the shard, and the tensors in it
  std::unique_ptr<SafetensorsWriter> writer;

  std::string name(size_t shard) const {
    if (!with_index) return "model.safetensors";
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", shard + 1, shards.size());
    return name;
  }
  void open() {
    writer = std::make_unique<SafetensorsWriter>(directory / name(current), shards[current], metadata);
  }
};

ShardedSafetensorsWriter::ShardedSafetensorsWriter(const fs::path& directory,
                                                   std::vector<TensorDeclaration> tensors,
                                                   int64_t max_shard_bytes, bool one_file_without_index,
                                                   const std::map<std::string, std::string>& metadata)
    : state_(std::make_unique<State>()) {
  APO_CHECK(ConfigError, max_shard_bytes >= 1, "max_shard_bytes: expected at least 1, found ",
            max_shard_bytes);
  state_->directory = directory;
  state_->metadata = kMetadata;
  for (const auto& [key, text] : metadata) state_->metadata[key] = text;
  header_of(directory, tensors, state_->metadata);  // two of one name would meet in different shards
  state_->shards = shards_of(std::move(tensors), max_shard_bytes);
  state_->with_index = state_->shards.size() > 1 || !one_file_without_index;
  state_->open();
}

ShardedSafetensorsWriter::~ShardedSafetensorsWriter() = default;

void ShardedSafetensorsWriter::write(const at::Tensor& tensor) {
  if (state_->written == state_->shards[state_->current].size()) {
    APO_ASSERT(state_->current + 1 < state_->shards.size());
    state_->writer->finish();
    ++state_->current;
    state_->written = 0;
    state_->open();
  }
  state_->writer->write(tensor);
  ++state_->written;
}

std::vector<std::string> ShardedSafetensorsWriter::finish() {
  APO_ASSERT(state_->current + 1 == state_->shards.size());
  state_->writer->finish();
  std::vector<std::string> files;
  nlohmann::ordered_json index;
  int64_t total = 0;
  index["metadata"]["total_size"] = 0;
  index["weight_map"] = nlohmann::ordered_json::object();
  for (size_t i = 0; i < state_->shards.size(); ++i) {
    files.push_back(state_->name(i));
    for (const TensorDeclaration& tensor : state_->shards[i]) {
      index["weight_map"][tensor.name] = files.back();
      total += tensor.bytes();
    }
  }
  index["metadata"]["total_size"] = total;
  if (state_->with_index) write_json(state_->directory / "model.safetensors.index.json", index);
  return files;
}

std::string safetensors_text(const NamedTensors& tensors) {
  std::string text = header_of("safetensors", declarations_of(tensors), {});
  for (const auto& [name, tensor] : tensors) text += bytes_of(tensor.detach().to(at::kCPU).contiguous());
  return text;
}

void write_safetensors(const fs::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer(path, declarations_of(tensors), metadata);
  for (const auto& [name, tensor] : tensors) writer.write(tensor);
  writer.finish();
}

void write_sharded_safetensors(const fs::path& directory, const NamedTensors& tensors,
                               int64_t max_shard_bytes) {
  ShardedSafetensorsWriter writer(directory, declarations_of(tensors), max_shard_bytes);
  for (const auto& [name, tensor] : tensors) writer.write(tensor);
  writer.finish();
}

}  // namespace apo::models
