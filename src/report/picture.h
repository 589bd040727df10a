// Pictures inside a page.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace apo::report {

/// The WebP picture or animation `dir`/`path` (at most 8 MiB) as an <img> that carries its bytes, described
/// by `alt`; or a box that says why there is none, and a note: "The animation a.webp is missing." with `what`
/// "animation".
std::string embedded_picture(const std::filesystem::path& dir, const std::string& path,
                             const std::string& alt, const std::string& what,
                             std::vector<std::string>& notes);

}  // namespace apo::report
