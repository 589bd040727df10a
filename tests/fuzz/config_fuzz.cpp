// A config of any bytes: read, or refused with a message.
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apo/base/error.h"
#include "apo/config/options.h"

namespace {

using apo::config::Visitor;

// Every kind of field that a config can have, with names as in `data`.
enum class Format { automatic, apo, libero };
std::span<const std::pair<Format, std::string_view>> enum_names(Format) {
  static constexpr std::pair<Format, std::string_view> names[] = {
      {Format::automatic, "auto"}, {Format::apo, "apo"}, {Format::libero, "libero"}};
  return names;
}

struct Source {
  std::string path, instruction;
  Format format = Format::automatic;
  int64_t limit = 0;
  std::optional<double> share;
  void visit(Visitor& v) {
    v.path("path", path, "file");
    v("instruction", instruction, "text");
    v("format", format, "layout");
    v("limit", limit, "episodes", apo::config::at_least(0));
    v("share", share, "of a batch", apo::config::between(0, 1));
  }
};

struct Filter {
  double max_abs_action = 1;
  double min_motion = 0.05;
  std::optional<int64_t> most;
  void visit(Visitor& v) {
    v("max_abs_action", max_abs_action, "limit", apo::config::or_infinite(apo::config::positive()));
    v("min_motion", min_motion, "limit", apo::config::at_least(0));
    v("most", most, "steps", apo::config::between(1, 1e9));
  }
};

struct Data {
  std::vector<Source> expert, interactions;
  Filter filter;
  std::vector<double> scale = {0.5, 1};
  std::vector<int64_t> layers;
  std::vector<std::string> cameras;
  bool cache = true;
  void visit(Visitor& v) {
    v("expert", expert, "demonstrations");
    v("interactions", interactions, "deployments");
    v("filter", filter, "left out");
    v("scale", scale, "numbers");
    v("layers", layers, "integers", apo::config::at_least(0));
    v("cameras", cameras, "names");
    v("cache", cache, "switch");
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // what follows the last line "#--set" is one override
  const size_t mark = text.rfind("\n#--set ");
  std::vector<std::string> overrides;
  if (mark != std::string_view::npos) overrides.emplace_back(text.substr(mark + 8));
  try {
    const auto options =
        apo::config::load<Data>(apo::config::Document::from_text(text.substr(0, mark), overrides));
    // what was read prints and reads back to the same
    const std::string printed = apo::config::print(options);
    const auto again = apo::config::load<Data>(apo::config::Document::from_text(printed));
    if (apo::config::print(again) != printed) __builtin_trap();
  } catch (const apo::Error& error) {
    if (*error.what() == '\0') __builtin_trap();
  }
  return 0;
}
