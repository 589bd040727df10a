#include "apo/base/version.h"

namespace apo {

std::string_view version() { return APO_VERSION; }

}  // namespace apo
