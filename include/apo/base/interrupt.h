// Ctrl-C, SIGTERM and SIGHUP as a question that long loops ask, so that they can save before they stop.
#pragma once

namespace apo {

/// From now on SIGINT, SIGTERM and SIGHUP set a flag. What has not ended within a second of the first one is
/// ended with exit code 130, unless something is Finishing (see finishing.h); a second one ends the process
/// at once.
void catch_interrupts();
/// True once a signal arrived.
bool interrupted();
/// For tests: set or clear the flag.
void set_interrupted(bool value);

}  // namespace apo
