#include "models/checkpoints/checkpoint_files.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/hash.h"
#include "base/json.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kState = "state.json";
constexpr int64_t kFirstSealedVersion = 2;
const std::string kNoHash(32, '0');

std::string seal_of(std::string_view text, const std::string& hash) {
  std::string open(text);
  const std::string field = "\"hash\": \"" + hash + "\"";
  const size_t at = open.find(field);
  if (at == std::string::npos) return {};
  open.replace(at, field.size(), "\"hash\": \"" + kNoHash + "\"");
  return content_hash(open);
}

void check_file(const fs::path& path, const JsonField& expected) {
  std::error_code error;
  const uintmax_t bytes = fs::file_size(path, error);
  APO_CHECK(DataError, !error, path.string(), ": missing; expected the file that training wrote here");
  const auto wanted = expected["bytes"].get<uintmax_t>();
  APO_CHECK(DataError, bytes == wanted, path.string(), ": damaged: expected the ", wanted,
            " bytes that training wrote, found ", bytes);
  const std::string hash = file_hash(path), written = expected["hash"].get<std::string>();
  APO_CHECK(DataError, hash == written, path.string(),
            ": damaged: expected the bytes that "
            "training wrote (hash ",
            written, "), found others (", hash,
            "); if they were changed on purpose, copy the directory `policy` elsewhere and name that");
}

void check_these_files(const fs::path& checkpoint, std::string_view below) {
  const fs::path path = checkpoint / kState;
  const JsonFile state(path);
  const bool has_hashes = state["version"].get_or<int64_t>(0) >= kFirstSealedVersion;
  check_seal(path, read_file(path), has_hashes);
  if (!has_hashes) return;
  state["files"].expect(state["files"].present(), "the size and hash of each file");
  for (const auto& [name, expected] : state["files"].entries())
    if (name.starts_with(below)) check_file(checkpoint / name, expected);
}

// What checkpoints/latest stands for.
fs::path without_link(const fs::path& path) {
  std::error_code ignored;
  return fs::is_symlink(path, ignored) ? path.parent_path() / fs::read_symlink(path, ignored) : path;
}

// The step-N beside this one that are committed, newest first.
std::vector<fs::path> neighbors(const fs::path& checkpoint) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator entry(checkpoint.parent_path(), error), end; !error && entry != end;
       entry.increment(error)) {
    const auto step = step_of(entry->path());
    if (step && entry->path().filename() != checkpoint.filename() && is_whole_directory(entry->path()))
      found.emplace_back(*step, entry->path());
  }
  std::ranges::sort(found, std::greater());
  std::vector<fs::path> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

}  // namespace

std::optional<int64_t> step_of(const fs::path& checkpoint) {
  constexpr std::string_view kBefore = "step-";
  const std::string name = checkpoint.filename().string();
  if (!name.starts_with(kBefore) || name.find_first_not_of("0123456789", kBefore.size()) != std::string::npos)
    return {};
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kBefore.size(), end, step);
  if (error != std::errc()) return {};
  return step;
}

ordered_json file_hashes(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && !name.starts_with(".") && name != kState && name != "DONE")
      names.push_back(entry.path().lexically_relative(directory).string());
  }
  std::ranges::sort(names);
  ordered_json files = ordered_json::object();
  for (const std::string& name : names)
    files[name] = {{"bytes", fs::file_size(directory / name)}, {"hash", file_hash(directory / name)}};
  return files;
}

std::string sealed(const ordered_json& state) {
  ordered_json all = {{"hash", kNoHash}};
  all.update(state);
  std::string text = all.dump(1) + "\n";
  return text.replace(text.find(kNoHash), kNoHash.size(), content_hash(text));
}

void check_seal(const fs::path& path, std::string_view text, bool must) {
  const auto state = parse_if_json(text, path.string());
  const bool has = state && state->is_object() && state->contains("hash") && state->at("hash").is_string();
  if (!has && !must) return;
  const std::string hash = has ? state->at("hash").get<std::string>() : "";
  APO_CHECK(DataError, has && seal_of(text, hash) == hash, path.string(),
            ": damaged: expected the text that training wrote, found another (its own hash does not fit)");
}

void check_files(const fs::path& checkpoint, std::string_view below) {
  try {
    check_these_files(checkpoint, below);
  } catch (const DataError& error) {
    for (const fs::path& other : neighbors(checkpoint)) {
      try {
        check_these_files(other, "");
      } catch (const DataError&) {
        continue;
      }
      throw DataError(concat(error.what(), "; the checkpoint beside it is whole: ", other.string(),
                             " (remove ", without_link(checkpoint).string(),
                             ", and --resume goes on from there)"));
    }
    throw;
  }
}

void check_policy_files(const fs::path& policy) {
  const fs::path checkpoint = policy.parent_path();
  std::error_code ignored;
  if (policy.filename() == "policy" && fs::is_regular_file(checkpoint / kState, ignored))
    check_files(checkpoint, "policy/");
}

}  // namespace apo::models
