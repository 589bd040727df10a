// Who may talk to the server: what is looked at in a request's head before anything else.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "apo/serving/options.h"

namespace apo::serving {

/// What of a request's head matters.
struct RequestHead {
  std::optional<std::string> host, origin;
  std::string authorization;  ///< empty: none
  std::string query_token;    ///< of ?token=, for browsers' sockets, which cannot send a header
};

struct Refusal {
  int status = 403;
  std::string reason;
};

/// 403 for a Host that is neither an address (of a server that listens on the own machine alone: of it) nor
/// localhost nor in serve.hosts, and for an Origin that is neither the page's own nor in serve.origins; 401
/// where serve.token is not shown as "Bearer TOKEN" or "Api-Key TOKEN" (openpi's). Without `needs_token`, the
/// token is not asked for. Comparing tokens takes equally long wherever they differ.
std::optional<Refusal> refusal_of(const RequestHead& head, const ServeOptions& options, bool needs_token);

/// The value of a key in "/path?key=value&...", with %XX decoded; empty: none.
std::string query_value(std::string_view target, std::string_view key);

}  // namespace apo::serving
