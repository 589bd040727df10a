// Which files of a checkpoint's directory go along wherever its weights go.
#pragma once

#include <filesystem>

namespace apo::models {

/// Configs, tokenizers, statistics, code, texts: every regular file but weights of any format and their
/// index, an adapter's config, marks of ours, and hidden files.
bool is_companion(const std::filesystem::path& file);

}  // namespace apo::models
