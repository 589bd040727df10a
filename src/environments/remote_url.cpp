#include "environments/remote_url.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "apo/base/error.h"

namespace apo::environments {
namespace {

constexpr std::string_view kScheme = "ws://";
constexpr int64_t kLargestPort = 65535;

[[noreturn]] void fail(const std::string& text, std::string_view why) {
  throw ConfigError(
      concat("environment.remote.url: expected ws://HOST[:PORT][/PATH]", why, ", found \"", text, "\""));
}

bool is_plain(const std::string& text) {
  return std::ranges::all_of(text, [](unsigned char c) { return c > 32 && c < 127; });
}

}  // namespace

RemoteUrl RemoteUrl::parse(const std::string& text) {
  if (text.starts_with("wss://") || text.starts_with("https://"))
    fail(text, " (without TLS; an ssh tunnel, ssh -L PORT:127.0.0.1:PORT HOST, protects what goes over it)");
  if (!text.starts_with(kScheme) || !is_plain(text)) fail(text, "");
  RemoteUrl url;
  std::string rest = text.substr(kScheme.size());
  if (const size_t slash = rest.find('/'); slash != std::string::npos) {
    url.path = rest.substr(slash);
    rest.resize(slash);
  }
  const size_t closing = rest.starts_with('[') ? rest.find(']') : std::string::npos;
  if (rest.starts_with('[') && closing == std::string::npos) fail(text, "");
  const size_t colon = rest.find(':', closing == std::string::npos ? 0 : closing);
  if (colon != std::string::npos) {
    url.port = rest.substr(colon + 1);
    rest.resize(colon);
    const bool digits = !url.port.empty() && url.port.size() <= 5 &&
                        std::ranges::all_of(url.port, [](unsigned char c) { return std::isdigit(c) != 0; });
    if (!digits || std::stol(url.port) < 1 || std::stol(url.port) > kLargestPort)
      fail(text, " with a port from 1 to 65535");
  }
  url.host = closing == std::string::npos ? rest : rest.substr(1, closing - 1);
  if (url.host.empty() || url.host.find('@') != std::string::npos) fail(text, "");
  return url;
}

std::string token_of(const std::string& option) {
  std::string token = option;
  if (option.starts_with('$')) {
    const char* const value = std::getenv(option.c_str() + 1);
    APO_CHECK(ConfigError, value != nullptr && *value != '\0', "environment.remote.token: ", option,
              ": expected an environment variable of that name, found none");
    token = value;
  }
  APO_CHECK(ConfigError, is_plain(token),
            "environment.remote.token: expected printable characters without spaces");
  return token;
}

}  // namespace apo::environments
