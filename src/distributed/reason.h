// Why something failed, in one line.
#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <string>

namespace apo::distributed {

/// The first line of what LibTorch says, without its stack.
inline std::string reason(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = c10_error != nullptr ? c10_error->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace apo::distributed
