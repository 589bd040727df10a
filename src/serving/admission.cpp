#include "serving/admission.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <cctype>

#include "apo/base/error.h"
#include "apo/base/text.h"

namespace apo::serving {
namespace {

std::string lower(std::string_view text) {
  std::string small(text);
  std::ranges::transform(small, small.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return small;
}

// "localhost:8000" -> "localhost", "[::1]:8000" -> "::1".
std::string name_of(std::string_view host) {
  if (host.starts_with('[')) return std::string(host.substr(1, host.find(']') - 1));
  return std::string(host.substr(0, host.find(':')));
}

bool is_own_host(const std::string& host, const ServeOptions& options) {
  const std::string name = lower(name_of(host));
  if (name == "localhost") return true;
  for (const std::string& known : options.hosts)
    if (lower(known) == name || lower(known) == lower(host)) return true;
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(name, error);
  if (error) return false;
  // a name can be made to lead here, an address cannot
  return !boost::asio::ip::make_address(options.address).is_loopback() || address.is_loopback();
}

bool equal_in_constant_time(std::string_view given, std::string_view secret) {
  unsigned char difference = given.size() == secret.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i)
    difference =
        static_cast<unsigned char>(difference | (static_cast<unsigned char>(given[i]) ^
                                                 static_cast<unsigned char>(secret[i % secret.size()])));
  return difference == 0;
}

bool shows_token(const RequestHead& head, const std::string& token) {
  for (const std::string_view scheme : {"bearer ", "api-key "})
    if (lower(head.authorization).starts_with(scheme))
      return equal_in_constant_time(std::string_view(head.authorization).substr(scheme.size()), token);
  return equal_in_constant_time(head.query_token, token);
}

std::string shown(const std::string& text) { return printable(shortened(text, 100)); }

}  // namespace

std::optional<Refusal> refusal_of(const RequestHead& head, const ServeOptions& options, bool needs_token) {
  if (!head.host || !is_own_host(*head.host, options))
    return Refusal{
        403, concat("Host: expected an address of this machine, localhost or one of serve.hosts, found ",
                    head.host ? concat("'", shown(*head.host), "'") : "none")};
  if (head.origin) {
    const std::string origin = lower(*head.origin), host = lower(*head.host);
    const bool own = origin == "http://" + host || origin == "https://" + host;
    if (!own &&
        std::ranges::none_of(options.origins, [&](const auto& known) { return lower(known) == origin; }))
      return Refusal{403, concat("Origin: expected this server's own or one of serve.origins, found '",
                                 shown(*head.origin), "'")};
  }
  if (needs_token && !options.token.empty() && !shows_token(head, options.token))
    return Refusal{401, head.authorization.empty() && head.query_token.empty()
                            ? "expected the header 'Authorization: Bearer TOKEN' with serve.token, found none"
                            : "expected serve.token, found another token"};
  return std::nullopt;
}

std::string query_value(std::string_view target, std::string_view key) {
  const size_t mark = target.find('?');
  if (mark == std::string_view::npos) return "";
  std::string_view rest = target.substr(mark + 1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    if (!pair.starts_with(key) || pair.size() <= key.size() || pair[key.size()] != '=') continue;
    const std::string_view coded = pair.substr(key.size() + 1);
    std::string value;
    for (size_t i = 0; i < coded.size(); ++i) {
      const auto digit = [&](size_t at) {
        return at < coded.size() && std::isxdigit(static_cast<unsigned char>(coded[at]));
      };
      if (coded[i] == '%' && digit(i + 1) && digit(i + 2)) {
        value += static_cast<char>(std::stoi(std::string(coded.substr(i + 1, 2)), nullptr, 16));
        i += 2;
      } else {
        value += coded[i];
      }
    }
    return value;
  }
  return "";
}

}  // namespace apo::serving
