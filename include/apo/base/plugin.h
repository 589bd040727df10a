// Code of your own in the shipped programs: a shared library that registers policies, environments or people.
//
//   #include <apo/base/plugin.h>
//   #include <apo/environments/environment.h>
//   APO_PLUGIN() {
//     apo::environments::register_environment("mine", [](const auto&) { return std::make_unique<Mine>(); });
//   }
//
//   apo-collect --plugin libmine.so --set environment.type=mine ...
//
// It is compiled against an installed apo (examples/plugin) and linked with apo::apo.
#pragma once

#include <filesystem>

#include "apo/base/version.h"

namespace apo {

/// Loads the library and lets it register what it has; a second time does nothing. It is never unloaded.
/// Errors  ConfigError naming the file: not there, not loadable (with the loader's reason), no plug-in of
///         apo, compiled against another version. RunError with the exception's text where its registration
///         throws.
void load_plugin(const std::filesystem::path& file);

}  // namespace apo

/// The body that follows runs when a program has loaded the library.
#define APO_PLUGIN()                                                                                  \
  extern "C" __attribute__((visibility("default"))) const char* apo_plugin_version() {                \
    return APO_HEADERS_VERSION;                                                                       \
  }                                                                                                   \
  static void apo_plugin_body();                                                                      \
  extern "C" __attribute__((visibility("default"))) void apo_plugin_register() { apo_plugin_body(); } \
  static void apo_plugin_body()
