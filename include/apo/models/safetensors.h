// safetensors files, single or sharded: read by memory map, written whole or not at all.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apo/models/named_tensors.h"

namespace apo::models {

/// Tensors by name over one file, or over the shards of `model.safetensors.index.json`.
class SafetensorsReader {
 public:
  /// A .safetensors file, an .index.json, or a directory holding either. DataError naming the file and what
  /// is wrong: missing, truncated, header not JSON, offsets outside the file or overlapping, shape that does
  /// not match its bytes, dtype unknown, index naming a missing shard or tensor.
  explicit SafetensorsReader(const std::filesystem::path& path);
  ~SafetensorsReader();

  /// The file, or the index of the shards.
  const std::filesystem::path& path() const;
  std::vector<std::string> names() const;
  /// The same by place: shard by shard, in the order of the data.
  std::vector<std::string> names_in_order() const;
  bool has(const std::string& name) const;
  /// [shape] of a tensor without reading it.
  std::vector<int64_t> shape(const std::string& name) const;
  /// The tensor; its storage is the mapped file (copy it before changing it).
  at::Tensor tensor(const std::string& name) const;
  /// Lets the pages of a tensor leave memory: reading it again reads the file again. For tensors that were
  /// not changed in place, which would lose the change.
  void release(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const;

  /// DataError as `load_into`; reads headers only, so that meta tensors will do.
  void check(const NamedTensors& parameters, bool allow_unexpected = false) const;
  /// Copies every parameter's value from the file. DataError listing tensors that are missing, unexpected
  /// (unless `allow_unexpected`) or of another shape, with both shapes; nothing is changed then.
  void load_into(const NamedTensors& parameters, bool allow_unexpected = false) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// A tensor before it is there.
struct TensorDeclaration {
  std::string name;
  at::ScalarType type;
  std::vector<int64_t> shape;
  int64_t bytes() const;
};

/// Writes one file tensor by tensor, so that no more than one need be in memory.
///
/// Errors  RunError naming the file: two tensors of one name, a type that safetensors lacks, disk full; Bug
///         for a tensor that is not the declared one, or missing at the end
class SafetensorsWriter {
 public:
  /// Writes the header. The file appears under its name when `finish` returns, or never.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorDeclaration> tensors,
                    const std::map<std::string, std::string>& metadata = {});
  ~SafetensorsWriter();
  /// The next declared tensor, from any device, in any layout.
  void write(const at::Tensor& tensor);
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Writes shards of at most `max_shard_bytes` (a larger tensor has one for itself) and their index, tensor by
/// tensor.
///
/// `model-0000i-of-0000n.safetensors` and `model.safetensors.index.json`, as transformers names them; with
/// `one_file_without_index` a single shard is `model.safetensors` alone, as transformers writes it.
class ShardedSafetensorsWriter {
 public:
  /// `metadata` joins that of every shard. ConfigError if max_shard_bytes < 1; other errors as
  /// SafetensorsWriter.
  ShardedSafetensorsWriter(const std::filesystem::path& directory, std::vector<TensorDeclaration> tensors,
                           int64_t max_shard_bytes, bool one_file_without_index = false,
                           const std::map<std::string, std::string>& metadata = {});
  ~ShardedSafetensorsWriter();
  void write(const at::Tensor& tensor);
  /// Writes the index. The files' names, index excluded.
  std::vector<std::string> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Writes tensors to one file atomically; on the CPU, in the order given.
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});
/// Writes `model-0000i-of-0000n.safetensors` shards of at most `max_shard_bytes` and the index.
void write_sharded_safetensors(const std::filesystem::path& directory, const NamedTensors& tensors,
                               int64_t max_shard_bytes);

}  // namespace apo::models
