// A policy of one's own that goes no further than its making.
#include <apo/base/error.h>
#include <apo/base/plugin.h>
#include <apo/models/registry.h>

APO_PLUGIN() {
  apo::models::register_policy("stubborn", {.create = [](const auto&, const auto&, uint64_t,
                                                         at::Device) -> std::unique_ptr<apo::models::Policy> {
                                              throw apo::ConfigError("stubborn was asked to be made");
                                            },
                                            .load = {}});
}
