// Boost's network library with the names that this room uses.
#pragma once

#include "wire/net.h"

namespace apo::serving {

namespace net = wire::net;
namespace beast = wire::beast;
namespace http = wire::http;
namespace websocket = wire::websocket;
using wire::caught;
using wire::error_code;
using wire::HttpRequest;
using wire::HttpResponse;
using wire::tcp;
using wire::WebSocket;

}  // namespace apo::serving
