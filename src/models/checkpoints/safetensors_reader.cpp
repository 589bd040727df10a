#include <sys/mman.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "base/lfs_pointer.h"
#include "models/checkpoints/mapped_file.h"
#include "models/checkpoints/safetensors_types.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kLargestHeader = 100'000'000;  // the limit of the format's own reader
constexpr int kDeepestHeader = 3;                 // {tensor: {field: [numbers]}}

struct Entry {
  std::shared_ptr<MappedFile> file;
  at::ScalarType type = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // within the file
};

// The header as JSON; refuses nesting bombs and names that stand twice.
json parse_header(const std::string& where, const char* begin, const char* end) {
  std::set<std::string> names;
  const json::parser_callback_t guard = [&](int depth, json::parse_event_t event, json& value) {
    APO_CHECK(DataError, depth <= kDeepestHeader, where, ": header: nested too deeply");
    if (event == json::parse_event_t::key && depth == 1)
      APO_CHECK(DataError, names.insert(value.get<std::string>()).second, where, ": header: the tensor ",
                value.get<std::string>(), " is there twice");
    return true;
  };
  try {
    json header = json::parse(begin, end, guard);
    APO_CHECK(DataError, header.is_object(), where, ": header: expected a JSON object, found a ",
              header.type_name());
    return header;
  } catch (const json::exception& error) {
    throw DataError(concat(where, ": header: not JSON: ", error.what()));
  }
}

uint64_t unsigned_number(const json& value, const std::string& where, const char* field) {
  APO_CHECK(DataError, value.is_number_unsigned(), where, ": ", field,
            ": expected whole numbers from 0, found ", json_excerpt(value));
  return value.get<uint64_t>();
}

// One tensor's line of the header; `data` bytes follow the header, which ends at `data_begin`.
Entry parse_entry(const json& value, const std::string& where, uint64_t data_begin, uint64_t data) {
  for (const char* field : {"dtype", "shape", "data_offsets"})
    APO_CHECK(DataError, value.is_object() && value.contains(field), where, ": expected the field ", field,
              ", found none");
  APO_CHECK(DataError, value["dtype"].is_string(), where, ": dtype: expected a text, found a ",
            value["dtype"].type_name());
  const auto dtype = value["dtype"].get<std::string>();
  const std::optional<at::ScalarType> type = scalar_type_of(dtype);
  APO_CHECK(DataError, type.has_value(), where, ": dtype: \"", dtype,
            "\" is unknown; known: ", known_dtypes());
  Entry entry{.file = nullptr, .type = *type, .shape = {}};

  APO_CHECK(DataError, value["shape"].is_array(), where, ": shape: expected a list, found a ",
            value["shape"].type_name());
  uint64_t bytes = c10::elementSize(*type);
  for (const json& size : value["shape"]) {
    const uint64_t extent = unsigned_number(size, where, "shape");
    APO_CHECK(DataError, extent <= INT64_MAX && !__builtin_mul_overflow(bytes, extent, &bytes), where,
              ": shape: larger than any file: ", json_excerpt(value["shape"]));
    entry.shape.push_back(static_cast<int64_t>(extent));
  }

  const json& offsets = value["data_offsets"];
  APO_CHECK(DataError, offsets.is_array() && offsets.size() == 2, where,
            ": data_offsets: expected [begin, end], found a ", offsets.type_name(), " of ", offsets.size());
  const uint64_t begin = unsigned_number(offsets[0], where, "data_offsets"),
                 end = unsigned_number(offsets[1], where, "data_offsets");
  APO_CHECK(DataError, begin <= end && end <= data, where,
            ": data_offsets: expected to lie within the file's ", data, " bytes of data, found [", begin,
            ", ", end, "]; the file is truncated or damaged");
  APO_CHECK(DataError, end - begin == bytes, where, ": shape ", at::IntArrayRef(entry.shape), " of ", dtype,
            " takes ", bytes, " bytes, data_offsets give ", end - begin);
  entry.begin = data_begin + begin;
  entry.end = data_begin + end;
  return entry;
}

void check_no_overlap(const std::map<std::string, Entry>& entries, const fs::path& path) {
  std::vector<std::pair<const std::string*, const Entry*>> sorted;
  for (const auto& [name, entry] : entries)
    if (entry.end > entry.begin) sorted.emplace_back(&name, &entry);
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second->begin < b.second->begin; });
  for (size_t i = 1; i < sorted.size(); ++i)
    APO_CHECK(DataError, sorted[i - 1].second->end <= sorted[i].second->begin, path.string(),
              ": the tensors ", *sorted[i - 1].first, " and ", *sorted[i].first, " overlap");
}

struct Contents {
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;
};

Contents read_one_file(const fs::path& path) {
  const auto file = std::make_shared<MappedFile>(path);
  APO_CHECK(DataError, file->size() >= 8, path.string(), ": expected a safetensors file, found ",
            file->size(), " bytes");
  refuse_lfs_pointer(path, {file->bytes(), std::min<size_t>(file->size(), 200)});
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i)
    header_bytes = header_bytes << 8 | static_cast<unsigned char>(file->bytes()[i]);
  APO_CHECK(DataError, header_bytes <= kLargestHeader, path.string(), ": expected a header of at most ",
            kLargestHeader, " bytes, found ", header_bytes, "; this is not a safetensors file");
  APO_CHECK(DataError, header_bytes <= file->size() - 8, path.string(), ": the header says ", header_bytes,
            " bytes, the file has ", file->size() - 8, " after it; truncated");
  const uint64_t data_begin = 8 + header_bytes;
  const json header = parse_header(path.string(), file->bytes() + 8, file->bytes() + data_begin);

  Contents contents;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      if (value.is_null()) continue;  // some writers' way to say that there is none
      APO_CHECK(DataError, value.is_object(), path.string(), ": __metadata__: expected an object of texts");
      for (const auto& [key, text] : value.items()) {
        APO_CHECK(DataError, text.is_string(), path.string(), ": __metadata__: ", key, ": expected a text");
        contents.metadata[key] = text.get<std::string>();
      }
      continue;
    }
    Entry entry =
        parse_entry(value, path.string() + ": tensor " + name, data_begin, file->size() - data_begin);
    entry.file = file;
    contents.entries.emplace(name, std::move(entry));
  }
  check_no_overlap(contents.entries, path);
  return contents;
}

Contents read_shards(const fs::path& index) {
  const JsonFile file(index);
  file["weight_map"].expect(file["weight_map"].raw().is_object(), "an object that names each tensor's shard");
  std::map<std::string, Contents> shards;
  Contents all;
  for (const auto& [name, field] : file["weight_map"].entries()) {
    const auto shard = field.get<std::string>();
    field.expect(!shard.empty() && fs::path(shard).filename() == shard && shard != "..",
                 "a file beside the index");
    const fs::path path = index.parent_path() / shard;
    if (!shards.contains(shard)) {
      APO_CHECK(DataError, fs::exists(path), index.string(), ": the shard ", shard, " of the tensor ", name,
                " is missing; download it, or the whole checkpoint again");
      shards[shard] = read_one_file(path);
      all.metadata.merge(std::map(shards[shard].metadata));
    }
    const auto found = shards[shard].entries.find(name);
    APO_CHECK(DataError, found != shards[shard].entries.end(), path.string(), ": no tensor ", name,
              ", which ", index.filename().string(), " places here");
    all.entries.emplace(name, found->second);
  }
  return all;
}

// Tells once for each directory that two sets of weights lie in it.
void warn_of_second_set(const fs::path& directory) {
  static std::mutex mutex;
  static std::set<fs::path> told;
  bool same = false;
  try {
    const JsonFile index(directory / "model.safetensors.index.json");
    const json& weights = index["weight_map"].raw();
    same = weights.is_object() &&
           std::ranges::all_of(weights, [](const json& shard) { return shard == "model.safetensors"; });
  } catch (const DataError&) {
    // it is not read, so that it does not matter what it is
  }
  const std::lock_guard lock(mutex);
  if (same || !told.insert(fs::absolute(directory)).second) return;
  log_warn(directory.string(),
           ": holds model.safetensors and model.safetensors.index.json, which names other files; "
           "model.safetensors is read, as transformers does");
}

fs::path find_file(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  const fs::path single = path / "model.safetensors", index = path / "model.safetensors.index.json";
  if (fs::exists(single, ignored)) {
    if (fs::exists(index, ignored)) warn_of_second_set(path);
    return single;
  }
  if (fs::exists(index, ignored)) return index;
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (fs::exists(path / name, ignored))
      throw DataError(
          concat((path / name).string(),
                 ": pickles of PyTorch, which are programs and are not read; expected model.safetensors or "
                 "model.safetensors.index.json. Convert them where you trust them: in Python, "
                 "AutoModelForVision2Seq.from_pretrained(DIR, trust_remote_code=True)"
                 ".save_pretrained(NEW, safe_serialization=True)"));
  throw DataError(
      concat(path.string(), ": expected model.safetensors or model.safetensors.index.json, found neither"));
}

}  // namespace

struct SafetensorsReader::State {
  fs::path path;
  Contents contents;

  const Entry& entry(const std::string& name) const {
    const auto found = contents.entries.find(name);
    APO_CHECK(DataError, found != contents.entries.end(), path.string(), ": no tensor ", name);
    return found->second;
  }
};

SafetensorsReader::SafetensorsReader(const fs::path& path) : state_(std::make_shared<State>()) {
  state_->path = find_file(path);
  APO_CHECK(DataError, fs::exists(state_->path), state_->path.string(), ": no such file");
  state_->contents =
      state_->path.extension() == ".json" ? read_shards(state_->path) : read_one_file(state_->path);
}

SafetensorsReader::~SafetensorsReader() = default;

const fs::path& SafetensorsReader::path() const { return state_->path; }

std::vector<std::string> SafetensorsReader::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : state_->contents.entries) names.push_back(name);
  return names;
}

std::vector<std::string> SafetensorsReader::names_in_order() const {
  std::vector<std::string> ordered = names();
  const auto place = [this](const std::string& name) {
    const Entry& entry = state_->entry(name);
    return std::make_pair(entry.file->path(), entry.begin);
  };
  std::ranges::stable_sort(ordered, {}, place);
  return ordered;
}

void SafetensorsReader::release(const std::string& name) const {
  const Entry& entry = state_->entry(name);
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));  // whole pages only: the neighbours' stay
  const uint64_t begin = (entry.begin + page - 1) / page * page, end = entry.end / page * page;
  if (begin < end) ::madvise(entry.file->bytes() + begin, end - begin, MADV_DONTNEED);
}

bool SafetensorsReader::has(const std::string& name) const { return state_->contents.entries.contains(name); }

std::vector<int64_t> SafetensorsReader::shape(const std::string& name) const {
  return state_->entry(name).shape;
}

at::Tensor SafetensorsReader::tensor(const std::string& name) const {
  const Entry& entry = state_->entry(name);
  const at::TensorOptions options(entry.type);
  if (entry.begin == entry.end) return at::empty(entry.shape, options);
  char* data = entry.file->bytes() + entry.begin;
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(entry.type) !=
      0) {  // the format promises no alignment
    at::Tensor copy = at::empty(entry.shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, entry.end - entry.begin);
    return copy;
  }
  return at::from_blob(
      data, entry.shape, [file = entry.file](void*) {}, options);
}

const std::map<std::string, std::string>& SafetensorsReader::metadata() const {
  return state_->contents.metadata;
}

void SafetensorsReader::check(const NamedTensors& parameters, bool allow_unexpected) const {
  std::string problems;
  const auto complain = [&problems](const auto&... pieces) {
    problems += (problems.empty() ? " " : "; ") + concat(pieces...);
  };
  std::set<std::string> expected;
  for (const auto& [name, tensor] : parameters) {
    expected.insert(name);
    const auto found = state_->contents.entries.find(name);
    if (found == state_->contents.entries.end())
      complain("tensor ", name, " is missing");
    else if (tensor.sizes() != at::IntArrayRef(found->second.shape))
      complain("tensor ", name, ": expected ", tensor.sizes(), ", found ",
               at::IntArrayRef(found->second.shape));
  }
  for (const auto& [name, entry] : state_->contents.entries)
    if (!allow_unexpected && !expected.contains(name)) complain("tensor ", name, " is not expected");
  if (problems.size() > 2000) problems = problems.substr(0, 2000) + " ...";
  APO_CHECK(DataError, problems.empty(), state_->path.string(), ":", problems);
}

void SafetensorsReader::load_into(const NamedTensors& parameters, bool allow_unexpected) const {
  check(parameters, allow_unexpected);
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : parameters) at::Tensor(parameter).copy_(tensor(name));
}

}  // namespace apo::models
