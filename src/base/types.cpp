#include "apo/base/types.h"

namespace apo {

std::string_view to_string(ActionSource source) {
  switch (source) {
    case ActionSource::expert:
      return "expert";
    case ActionSource::policy:
      return "policy";
    case ActionSource::intervention:
      return "intervention";
  }
  return "unknown";
}

}  // namespace apo
