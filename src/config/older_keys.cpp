#include "apo/config/older_keys.h"

#include <map>

namespace apo::config {

std::string with_moved_keys(std::string_view printed, std::span<const MovedKey> moved) {
  std::string out, section;
  std::map<std::string_view, std::string> below;  // sections to be written at the end of the one that is read
  const auto close = [&] {
    for (const auto& [name, lines] : below) out.append("  ").append(name).append(":\n").append(lines);
    below.clear();
  };
  while (!printed.empty()) {
    const size_t end = std::min(printed.find('\n'), printed.size() - 1) + 1;
    const std::string_view line = printed.substr(0, end);
    printed.remove_prefix(end);
    const std::string_view name = line.substr(0, line.find(':'));
    if (!name.empty() && name[0] != ' ' && name[0] != '#') {
      close();
      section = name;
    }
    const MovedKey* found = nullptr;
    for (const MovedKey& key : moved)
      if (key.section == section && name.starts_with("  ") && name.substr(2) == key.key) found = &key;
    if (found != nullptr)
      below[found->below].append("  ").append(line);
    else
      out += line;
  }
  if (!below.empty() && !out.empty() && out.back() != '\n') out += '\n';
  close();
  return out;
}

}  // namespace apo::config
