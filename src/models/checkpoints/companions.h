// Which files of a checkpoint's directory go along wherever its weights go.
#pragma once

#include <filesystem>

namespace apo::models {

/// Configs, tokenizers, statistics, code, texts: every regular file but weights of any format and their
/// index, an adapter's config, marks of ours, and hidden files.
bool is_companion(const std::filesystem::path& file);
/// OpenVLA-OFT's projector of the state, weights in a file of their own: proprio_projector--*.pt.
bool is_state_projector(const std::filesystem::path& file);

}  // namespace apo::models
