// A plug-in that cannot register what it has.
#include <apo/base/plugin.h>

#include <stdexcept>

APO_PLUGIN() { throw std::runtime_error("no gamepad \033[31m here"); }
