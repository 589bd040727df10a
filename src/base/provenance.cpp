#include "apo/base/provenance.h"

#include <ATen/Parallel.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <concepts>
#include <ctime>
#include <fstream>
#include <thread>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/base/version.h"
#include "base/commit.h"

namespace apo {
namespace {

constexpr std::string_view kHead = "# made by ", kIndent = "#   ";

Provenance& own() {
  static Provenance instance = [] {
    Provenance made;
    made.version = version();
    made.commit = built_commit();
    made.torch = TORCH_VERSION;
    const std::time_t now = std::time(nullptr);
    std::tm utc = {};
    char date[32] = {};
    if (gmtime_r(&now, &utc) != nullptr) std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &utc);
    made.date = date;
    char host[256] = {};
    if (::gethostname(host, sizeof(host) - 1) == 0) made.host = host;
    std::ifstream cpus("/proc/cpuinfo");
    for (std::string line; std::getline(cpus, line) && made.cpu.empty();)
      if (line.starts_with("model name") && line.find(": ") != std::string::npos)
        made.cpu = line.substr(line.find(": ") + 2);
    const unsigned cores = std::thread::hardware_concurrency();
    made.cpu = concat(made.cpu.empty() ? "unknown" : made.cpu, ", ", cores, cores == 1 ? " core" : " cores");
    return made;
  }();
  return instance;
}

std::string shell_word(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,+@%^";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  if (printable(word) == word) {
    std::string quoted = "'";
    for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
    return quoted + "'";
  }
  std::string quoted = "$'";
  for (const char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\'' || c == '\\') quoted += '\\';
    if (byte >= 0x20 && byte < 0x7f) {
      quoted += c;
    } else {
      constexpr std::string_view kOctal = "01234567";
      quoted += concat('\\', kOctal[byte >> 6], kOctal[byte >> 3 & 7], kOctal[byte & 7]);
    }
  }
  return quoted + "'";
}

// The lines at the head of a text that tell where it comes from.
std::string_view comments_of(std::string_view text) {
  size_t end = 0;
  while (end < text.size()) {
    const std::string_view rest = text.substr(end);
    if (!rest.starts_with(kHead) && !(end > 0 && rest.starts_with(kIndent))) break;
    const size_t line = rest.find('\n');
    end = line == std::string_view::npos ? text.size() : end + line + 1;
  }
  return text.substr(0, end);
}

template <class Number>
requires std::integral<Number>
void read(Number& number, std::string_view text) {
  std::from_chars(text.data(), text.data() + text.size(), number);
}
void read(std::string& member, std::string_view text) { member = text; }

}  // namespace

void set_command(const std::string& program, int argc, const char* const* argv) {
  own().program = program;
  own().command = shell_line(std::vector<std::string>(argv, argv + argc));
}

Provenance provenance() {
  Provenance made = own();
  made.threads = at::get_num_threads();
  return made;
}

std::string shell_line(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) append_item(line, " ", shell_word(word));
  return line;
}

std::string with_provenance(std::string_view yaml, std::string_view earlier) {
  const Provenance made = provenance();
  std::string comments(comments_of(earlier));
  const std::vector<Provenance> before = read_provenance(comments);
  if (!before.empty() && before.back().command == made.command && before.back().commit == made.commit &&
      before.back().host == made.host)
    return comments + std::string(yaml);
  comments += concat(kHead, made.program.empty() ? "a program without a name" : made.program, "\n");
  Provenance::for_each_field(made, [&](const char* name, const auto& member) {
    comments += concat(kIndent, name, ": ", printable(concat(member)), "\n");
  });
  return comments + std::string(yaml);
}

std::vector<Provenance> read_provenance(std::string_view text) {
  std::vector<Provenance> all;
  for (std::string_view rest = comments_of(text); !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.starts_with(kHead)) {
      all.emplace_back();
      continue;
    }
    Provenance::for_each_field(all.back(), [&](const char* name, auto& member) {
      const std::string before = concat(kIndent, name, ": ");
      if (line.starts_with(before)) read(member, line.substr(before.size()));
    });
  }
  return all;
}

}  // namespace apo
