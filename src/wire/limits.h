// How much a message may hold, whoever sent it.
#pragma once

#include <cstddef>

namespace apo::wire {

/// Of what a message unfolds into. The bytes of the message itself are for who receives them to bound:
/// arrays, texts and bytes need no more memory than they took on the wire, every other value about 0.2 KiB.
struct Limits {
  size_t depth = 32;                ///< lists and maps within each other
  size_t values = size_t{1} << 18;  ///< in all, keys among them
};

}  // namespace apo::wire
