#include "report/picture.h"

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "base/base64.h"
#include "report/html.h"

namespace apo::report {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMostPictureBytes = 8 << 20;

}  // namespace

std::string embedded_picture(const fs::path& dir, const std::string& path, const std::string& alt,
                             const std::string& what, std::vector<std::string>& notes) {
  std::error_code error;
  std::string why;
  if (path.empty() || !fs::is_regular_file(dir / path, error)) {
    why = "missing";
  } else if (fs::file_size(dir / path, error) > kMostPictureBytes) {
    why = "larger than 8 MiB";
  } else {
    const std::string bytes = read_file(dir / path);
    if (bytes.size() >= 12 && bytes.starts_with("RIFF") && bytes.compare(8, 4, "WEBP") == 0)
      return concat("<img alt=\"", escape(alt), "\" src=\"data:image/webp;base64,", base64(bytes), "\"/>");
    why = "not a WebP picture";
  }
  notes.push_back(concat("The ", what, " ", path.empty() ? alt : path, " is ", why, "."));
  return concat("<div class=\"missing\">", escape(why), "</div>");
}

}  // namespace apo::report
