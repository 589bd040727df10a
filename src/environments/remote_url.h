// ws://HOST[:PORT][/PATH] in its parts.
#pragma once

#include <string>

namespace apo::environments {

struct RemoteUrl {
  std::string host, port = "80", path = "/";
  /// ConfigError "environment.remote.url: expected ..., found ..." for what is no such URL.
  static RemoteUrl parse(const std::string& text);
};

/// The token that an option stands for: itself, or for "$NAME" the environment variable NAME. ConfigError
/// where there is no such variable, or where the token holds what no HTTP header can.
std::string token_of(const std::string& option);

}  // namespace apo::environments
