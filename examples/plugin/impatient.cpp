// A person of one's own: takes over as soon as there is a concern, and finishes.
//   apo-collect --plugin build/libimpatient.so --set deploy.intervention.type=impatient ...
#include <apo/base/plugin.h>
#include <apo/deploy/intervention.h>

using namespace apo;

class Impatient : public deploy::InterventionSource {
 public:
  std::optional<deploy::Intervention> decide(const deploy::Moment& moment) override {
    if (!moment.concern) return std::nullopt;
    return deploy::Intervention{moment.expert().value(), *moment.concern};
  }
};

APO_PLUGIN() {
  using deploy::register_intervention_source;
  register_intervention_source("impatient", [](const auto&) { return std::make_unique<Impatient>(); });
}
