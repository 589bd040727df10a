// A path that names nothing, told so that a name on a hub is recognised for what it is.
#pragma once

#include <filesystem>
#include <string>

namespace apo::models {

/// DataError beginning with `where` if nothing is at `path`. Where not even its parent exists, the last two
/// parts may be a name on the Hugging Face hub ("openvla/openvla-7b"): nothing is fetched, and the message
/// says how to.
void refuse_missing(const std::filesystem::path& path, const std::string& where);

}  // namespace apo::models
