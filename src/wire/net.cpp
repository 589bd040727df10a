#include "wire/net.h"

// clang-format off
#include <boost/asio/impl/src.hpp>
#include <boost/beast/src.hpp>
// clang-format on
