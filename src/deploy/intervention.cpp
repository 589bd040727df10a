#include "apo/deploy/intervention.h"

#include <utility>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "apo/deploy/scripted_human.h"
#include "config/kinds.h"

namespace apo::deploy {
namespace {

using InterventionKinds = config::Kinds<InterventionFactory>;

InterventionKinds& known() {
  static auto* instance =
      new InterventionKinds({{"none", {[](const InterventionOptions&) { return make_no_human(); }}},
                             {"scripted",
                              {.factory =
                                   [](const InterventionOptions& options) {
                                     return make_scripted_human(options.of<ScriptedHumanOptions>());
                                   },
                               .own = config::AnyOptions(ScriptedHumanOptions()),
                               .doc = "the scripted human"}}});
  return *instance;
}

class NoHuman : public InterventionSource {
 public:
  std::optional<Intervention> decide(const Moment&) override { return std::nullopt; }
  bool repeatable() const override { return true; }
};

}  // namespace

void InterventionOptions::visit(config::Visitor& v) {
  const std::vector<std::string> registered = intervention_source_types();
  const std::vector<std::string_view> types(registered.begin(), registered.end());
  v.choice("type", type, types, "who may take over; a plug-in adds its own");
  config::visit_kinds(v, known().all(), own, "a source");
}

std::unique_ptr<InterventionSource> make_no_human() { return std::make_unique<NoHuman>(); }

void register_intervention_source(const std::string& type, InterventionFactory factory,
                                  config::AnyOptions own, const std::string& doc) {
  APO_CHECK(ConfigError, !type.empty() && type.find('.') == std::string::npos && type != "type" && factory,
            "register_intervention_source: expected a factory and a name that can be a key beside "
            "deploy.intervention.type, found \"",
            type, "\"");
  known().put(type, {std::move(factory), std::move(own), doc});
}

std::vector<std::string> intervention_source_types() { return known().names(); }

std::unique_ptr<InterventionSource> make_intervention_source(const InterventionOptions& options) {
  const InterventionFactory factory = known().all()[options.type].factory;
  if (!factory) {
    const std::vector<std::string> types = intervention_source_types();
    const auto near = config::nearest(options.type, types);
    throw ConfigError(concat("deploy.intervention.type: expected a registered source (", join(types),
                             "), found ", options.type,
                             near ? concat("; did you mean ", *near, "?") : std::string()));
  }
  auto source = factory(options);
  APO_CHECK(RunError, source != nullptr, "deploy.intervention.type ", options.type,
            ": its factory made nothing");
  return source;
}

}  // namespace apo::deploy
