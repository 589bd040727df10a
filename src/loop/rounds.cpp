// What a round's options are: those of the config, and what refine.later says from some round on.
#include "loop/rounds.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "apo/loop/refine.h"

namespace apo::loop {

bool is_within(std::string_view key, std::string_view section) {
  return key == section || (key.starts_with(section) && key[section.size()] == '.');
}

namespace {

constexpr std::array<std::string_view, 8> kSections = {
    "deploy.intervention", "deploy.collect", "data.labels", "data.pools",
    "objective",           "optimizer",      "schedule",    "train"};

bool may_change(std::string_view key) {
  return std::ranges::any_of(kSections, [key](std::string_view section) { return is_within(key, section); });
}

void check_key(const std::string& where, const std::string& text) {
  const size_t equals = text.find('=');
  APO_CHECK(ConfigError, equals != std::string::npos && equals > 0, where, ": expected key=value, found \"",
            text, "\"");
  std::vector<std::string> sections(kSections.begin(), kSections.end());
  APO_CHECK(ConfigError, may_change(text.substr(0, equals)), where, ": expected a key of ", join(sections),
            ", found ", text.substr(0, equals), ", which is the same in all rounds");
}

}  // namespace

void LaterOptions::visit(config::Visitor& v) {
  v("from_round", from_round, "first round in which they hold; they hold in all rounds after it, too",
    config::at_least(1));
  v("set", set,
    "what is different from that round on, as key=value of deploy.intervention, deploy.collect, data.labels, "
    "data.pools, objective, optimizer, schedule or train");
}

RefineSetup setup_of_round(const RefineSetup& setup, int64_t round) {
  RefineSetup now = setup;
  for (size_t i = 0; i < setup.refine.later.size(); ++i) {
    const LaterOptions& later = setup.refine.later[i];
    for (size_t k = 0; k < later.set.size(); ++k) {
      const std::string where = concat("refine.later[", i, "].set[", k, "]");
      check_key(where, later.set[k]);
      if (round < later.from_round) continue;
      try {
        now = config::load<RefineSetup>(
            config::Document::from_text(config::print(now), {later.set[k]}, ".", where));
      } catch (const ConfigError& error) {
        throw ConfigError(concat(where, ": ", error.what()));
      }
    }
  }
  return now;
}

}  // namespace apo::loop
