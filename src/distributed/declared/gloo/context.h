// What LibTorch's ProcessGroupGloo.hpp names of Gloo's contexts; only pointers to them pass through it.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
