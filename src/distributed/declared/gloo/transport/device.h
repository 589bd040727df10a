// What LibTorch's ProcessGroupGloo.hpp names of Gloo's devices; only pointers to them pass through it.
#pragma once

namespace gloo::transport {

class Device;
class UnboundBuffer;

}  // namespace gloo::transport
