// What a shell needs to complete a program's command line, from the program's own definition of it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace apo::apps {

/// The completion file for "bash" or "zsh" of the program with all its subcommands and options.
std::string completion(const CLI::App& app, const std::string& shell);

}  // namespace apo::apps
