// Which files of a checkpoint's directory go along wherever its weights go.
#pragma once

#include <filesystem>
#include <vector>

namespace apo::models {

/// Configs, tokenizers, statistics, code, texts: every regular file but weights of any format and their
/// index, an adapter's config, marks of ours, and hidden files.
bool is_companion(const std::filesystem::path& file);
/// OpenVLA-OFT's projector of the state, weights in a file of their own: proprio_projector--*.pt.
bool is_state_projector(const std::filesystem::path& file);

/// Those of a directory, relative to it and sorted; also what lies in its folders `action_tokenizer` and
/// `assets`, and the statistics of LeRobot's processors (policy_preprocessor_step_..., which are
/// safetensors). DataError naming one that is larger than 64 MiB there.
std::vector<std::filesystem::path> companions_of(const std::filesystem::path& directory);

}  // namespace apo::models
