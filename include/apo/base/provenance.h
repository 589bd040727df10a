// Where a result comes from: program, command, version, machine. It stands in everything that the programs
// write about themselves (config.yaml, results.json, summary.json, report.html).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace apo {

struct Provenance {
  std::string program;  ///< "apo-train"; empty in other people's programs
  std::string command;  ///< the exact command line, as a shell takes it
  std::string version;  ///< of this library
  std::string commit;   ///< that was built, "-dirty" where files differed from it; "unknown" outside of git
  std::string date;     ///< when the process began: "2026-02-28T09:05:00Z"
  std::string host;
  std::string cpu;      ///< model and number of cores of the machine
  std::string torch;    ///< version of LibTorch
  int64_t threads = 0;  ///< of the tensor library's CPU operations, at the time of asking

  /// field(name, member) for each of them, in this order.
  template <class Self, class Field>
  static void for_each_field(Self& self, Field&& field) {
    field("program", self.program);
    field("command", self.command);
    field("version", self.version);
    field("commit", self.commit);
    field("date", self.date);
    field("host", self.host);
    field("cpu", self.cpu);
    field("torch", self.torch);
    field("threads", self.threads);
  }
};

/// Tells `provenance` the name and the command line of this program; what a program does first.
void set_command(const std::string& program, int argc, const char* const* argv);
/// Of this process.
Provenance provenance();

/// The words as one line for a POSIX shell with $'...' for control characters: apo-train --set 'run.dir=my
/// run'.
std::string shell_line(const std::vector<std::string>& words);

/// The YAML text under comments that say where it comes from. Comments of the same kind at the head of
/// `earlier`, what the file held before, stay above: a run that was resumed elsewhere tells of both (the same
/// command of the same commit on the same host is told once).
std::string with_provenance(std::string_view yaml, std::string_view earlier = {});
/// What such comments at the head of a text say, the oldest first; unknown names are passed over.
std::vector<Provenance> read_provenance(std::string_view text);

}  // namespace apo
