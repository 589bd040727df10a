// Ctrl-C and SIGTERM as a question that long loops ask, so that they can save before they stop.
#pragma once

namespace apo {

/// From now on SIGINT, SIGTERM and SIGHUP set a flag; a second one ends the process at once (see finishing.h).
void catch_interrupts();
/// True once a signal arrived.
bool interrupted();
/// For tests: set or clear the flag.
void set_interrupted(bool value);

}  // namespace apo
