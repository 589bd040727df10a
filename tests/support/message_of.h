// What an error says.
#pragma once

#include <string>
#include <utility>

#include "apo/base/error.h"

namespace apo::testing {

/// The message of the error of this kind (each kind has its exit code) that `call` throws, or a text that no
/// test expects.
template <class Kind = Error, class Call>
std::string message_of(Call&& call) {
  try {
    std::forward<Call>(call)();
  } catch (const Kind& error) {
    return error.what();
  } catch (const std::exception& error) {
    return concat("(another exception: ", error.what(), ")");
  }
  return "(nothing thrown)";
}

}  // namespace apo::testing
