#include "apo/base/output.h"

#include <algorithm>
#include <system_error>

#include "apo/base/error.h"
#include "base/open_file.h"

namespace apo {
namespace {

namespace fs = std::filesystem;

// What else it may be, for the message.
std::string found(fs::file_status status, std::string_view head) {
  if (fs::is_symlink(status)) return "a link, which is not followed";
  if (fs::is_directory(status)) return "a directory";
  if (!fs::is_regular_file(status)) return "no plain file";
  if (head.starts_with("\x89HDF")) return "a recording";
  if (head.starts_with("RIFF") && head.substr(0, 12).ends_with("WEBP")) return "a WebP picture";
  return head.starts_with("{") ? "other JSON" : "another file";
}

}  // namespace

OutputKind json_lines(const std::string& name, const std::string& key) {
  return {name, [key](std::string_view head) {
            const std::string_view line = head.substr(0, head.find('\n'));
            return line.starts_with("{") && line.find("\"" + key + "\":") != std::string_view::npos;
          }};
}

OutputKind json_object(const std::string& name, const std::string& key) {
  return {name, [key](std::string_view head) {
            return head.starts_with("{") && head.find("\"" + key + "\":") != std::string_view::npos;
          }};
}

OutputKind text_beginning(const std::string& name, const std::string& beginning) {
  return {name, [beginning](std::string_view head) { return head.starts_with(beginning); }};
}

OutputKind webp_picture() {
  return {"a WebP picture", [](std::string_view head) {
            return head.starts_with("RIFF") && head.substr(0, 12).ends_with("WEBP");
          }};
}

OutputKind hdf5_file() {
  return {"a recording", [](std::string_view head) { return head.starts_with("\x89HDF"); }};
}

OutputKind begun_like(std::string_view bytes) {
  constexpr size_t kAlike = 8, kAlikeRiff = 4;  // a length follows
  const std::string beginning(bytes.substr(0, bytes.starts_with("RIFF") ? kAlikeRiff : kAlike));
  return {"what an interrupted program left of it", [beginning](std::string_view head) {
            const size_t count = std::min(beginning.size(), head.size());
            return count > 0 && head.substr(0, count) == beginning.substr(0, count);
          }};
}

void check_kind(const std::string& option, const fs::path& path, const OutputKind& kind) {
  std::error_code ignored;
  const fs::file_status status = fs::symlink_status(path, ignored);
  if (!fs::exists(status)) return;
  const std::string head = fs::is_regular_file(status) ? head_of(path) : "";
  const bool replaceable =
      fs::is_regular_file(status) && (fs::file_size(path, ignored) == 0 || kind.is_this(head));
  APO_CHECK(ConfigError, replaceable, option, ": ", path.string(), ": found ", found(status, head),
            ", which would be replaced; expected no file, or ", kind.name, "; choose another name");
}

void check_output(const std::string& option, const fs::path& path, const OutputKind& kind) {
  check_kind(option, path, kind);
  check_kind(option, path.string() + ".partial", kind);
  check_writable(path, kind);
}

}  // namespace apo
