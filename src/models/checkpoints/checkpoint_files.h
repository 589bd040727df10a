// Hashes of a training checkpoint's files: damage is noticed before anything is made of it.
//
// step-N/state.json holds under "files" {"policy/model.safetensors": {"bytes": ..., "hash": ...}, ...} for
// every file beside it but DONE and hidden ones, and under "hash" that of its own text with zeros in that
// place. Older ones have neither.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace apo::models {

/// N of a path that ends in step-N; nothing for other names.
std::optional<int64_t> step_of(const std::filesystem::path& checkpoint);

/// The object under "files" for everything below `directory` as it lies there now, state.json excepted.
nlohmann::ordered_json file_hashes(const std::filesystem::path& directory);

/// The text of state.json: `state`, with its own hash in front.
std::string sealed(const nlohmann::ordered_json& state);

/// DataError naming `path` if its text has a hash (or `must` have one) and is not what was sealed.
void check_seal(const std::filesystem::path& path, std::string_view text, bool must);

/// DataError naming the first file of the checkpoint (step-N) whose bytes are not those that were written,
/// and the newest checkpoint beside it that is whole. Reads each of them once; nothing is checked in older
/// checkpoints, which have no hashes. `below`: only files whose names begin so.
void check_files(const std::filesystem::path& checkpoint, std::string_view below = "");

/// The same for a policy's directory, if it is the one in a training checkpoint.
void check_policy_files(const std::filesystem::path& policy);

}  // namespace apo::models
