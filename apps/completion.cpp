#include "completion.h"

#include <algorithm>
#include <vector>

#include "apo/base/error.h"
#include "apo/config/shipped.h"

namespace apo::apps {
namespace {

enum class Value { none, text, word, file, directory };

// One option, or what stands without a name (no `names`), as a shell sees it.
struct Entry {
  std::vector<std::string> names;  // "--set", "-h"
  std::string help, type;
  Value value = Value::none;
  std::vector<std::string> words;  // to choose among; beside files for a config
  bool repeatable = false;
};

std::vector<std::string> choices(const std::string& type) {
  const size_t begin = type.find('{'), end = type.rfind('}');
  std::vector<std::string> words;
  if (begin == std::string::npos || end == std::string::npos) return words;
  std::string word;
  for (const char c : type.substr(begin + 1, end - begin - 1) + ",") {
    if (c != ',') {
      word += c;
    } else if (!word.empty()) {
      words.push_back(word);
      word.clear();
    }
  }
  return words;
}

Entry entry_of(const CLI::Option& option) {
  Entry entry;
  entry.help = option.get_description();
  entry.type = option.get_type_name();
  if (entry.type.empty() && option.get_positional()) entry.type = option.get_name(true);
  for (const std::string& name : option.get_snames()) entry.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) entry.names.push_back("--" + name);
  entry.repeatable = option.get_items_expected_max() > 1;
  if (option.get_items_expected_max() == 0) return entry;
  entry.words = choices(entry.type);
  entry.type = entry.type.substr(0, entry.type.find(':'));
  if (!entry.words.empty())
    entry.value = Value::word;
  else if (entry.type.find("FILE") != std::string::npos || entry.type == "PATH" || entry.type == "OUT")
    entry.value = Value::file;
  else if (entry.type == "DIR")
    entry.value = Value::directory;
  else
    entry.value = Value::text;
  if (entry.type == "FILE|NAME") entry.words = config::shipped_configs();
  return entry;
}

// The visible options of a program or subcommand; what stands without a name comes last.
std::vector<Entry> entries_of(const CLI::App& app) {
  std::vector<Entry> named, unnamed;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty() && !option->get_positional()) continue;
    Entry entry = entry_of(*option);
    (entry.names.empty() ? unnamed : named).push_back(std::move(entry));
  }
  named.insert(named.end(), unnamed.begin(), unnamed.end());
  return named;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::string joined(const std::vector<std::string>& words, const char* between = " ") {
  std::string text;
  for (const std::string& word : words) text += concat(text.empty() ? "" : between, word);
  return text;
}

std::string function_name(const CLI::App& app) {
  std::string name = "_" + app.get_name();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

const char* bash_candidates(const Entry& entry) {
  if (entry.value == Value::word) return "-W";
  if (entry.value == Value::file) return "-f";
  return entry.value == Value::directory ? "-d" : "";
}

// The cases of "COMMAND OPTION" for what may follow that option.
std::string bash_values(const std::string& command, const std::vector<Entry>& entries) {
  std::string out;
  for (const Entry& entry : entries) {
    if (entry.names.empty() || entry.value == Value::none) continue;
    std::vector<std::string> patterns;
    for (const std::string& name : entry.names) patterns.push_back(concat("\"", command, " ", name, "\""));
    out += concat("    ", joined(patterns, " | "), ") ");
    if (entry.value == Value::word)
      out += concat("_apo_words \"", joined(entry.words), "\"");
    else if (entry.value != Value::text)
      out += concat("_apo_files ", bash_candidates(entry),
                    entry.words.empty() ? "" : concat(" \"", joined(entry.words), "\""));
    else
      out += ":";
    out += "; return ;;\n";
  }
  return out;
}

// The cases of "COMMAND" for its options, its subcommands and what stands without a name.
std::string bash_words(const std::string& command, const CLI::App& app) {
  std::vector<std::string> options, commands;
  std::string files;
  for (const Entry& entry : entries_of(app)) {
    options.insert(options.end(), entry.names.begin(), entry.names.end());
    if (entry.names.empty()) files = bash_candidates(entry);
  }
  for (const CLI::App* inner : commands_of(app)) commands.push_back(inner->get_name());
  std::string rest = ":";
  if (!commands.empty())
    rest = concat("_apo_words \"", joined(commands), "\"");
  else if (!files.empty())
    rest = concat("_apo_files ", files);
  return concat("    \"", command, "\") if [[ $current == -* ]]; then _apo_words \"", joined(options),
                "\"; else ", rest, "; fi ;;\n");
}

std::string bash(const CLI::App& app) {
  std::string values = bash_values("", entries_of(app)), words = bash_words("", app);
  std::vector<std::string> commands;
  for (const CLI::App* inner : commands_of(app)) {
    commands.push_back(inner->get_name());
    values += bash_values(inner->get_name(), entries_of(*inner));
    words += bash_words(inner->get_name(), *inner);
  }
  const std::string find_command =
      commands.empty()
          ? ""
          : concat("  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case \"$word\" in ",
                   joined(commands, " | "), ") command=\"$word\"; break ;; esac\n  done\n");
  return concat(
      "# bash completion of ", app.get_name(), ", made by `", app.get_name(), " --print-completion bash`\n",
      R"sh(_apo_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current"); }
_apo_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -- "$current"; compgen -W "${2-}" -- "$current")
}
)sh",
      function_name(app), R"sh(() {
  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" command="" word
  COMPREPLY=()
  if [[ $current == "=" ]]; then  # bash takes --option=value apart
    current=""
  elif [[ $previous == "=" ]]; then
    previous="${COMP_WORDS[COMP_CWORD-2]}"
  fi
)sh",
      find_command, "  case \"$command $previous\" in\n", values, "  esac\n  case \"$command\" in\n", words,
      "  esac\n}\ncomplete -F ", function_name(app), " ", app.get_name(), "\n");
}

// Within the single quotes and brackets of a specification.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return out;
}

std::string zsh_action(const Entry& entry) {
  if (entry.value == Value::word) return concat("(", joined(entry.words), ")");
  if (entry.value == Value::directory) return "_files -/";
  if (entry.value == Value::file) return entry.words.empty() ? "_files" : "_apo_file_or_name";
  return " ";
}

std::string zsh_specifications(const CLI::App& app) {
  std::string out;
  for (const Entry& entry : entries_of(app)) {
    const std::string value =
        entry.value == Value::none
            ? ""
            : concat(":", zsh_text(entry.type.empty() ? "value" : entry.type), ":", zsh_action(entry));
    if (entry.names.empty()) {
      out += concat(" \\\n    '*", value, "'");
      continue;
    }
    for (const std::string& name : entry.names)
      out +=
          concat(" \\\n    '", entry.repeatable ? "*" : "", name, "[", zsh_text(entry.help), "]", value, "'");
  }
  return out;
}

std::string zsh(const CLI::App& app) {
  const std::vector<const CLI::App*> commands = commands_of(app);
  std::string out =
      concat("#compdef ", app.get_name(), "\n# made by `", app.get_name(), " --print-completion zsh`\n",
             "_apo_file_or_name() { _alternative 'files:file:_files' 'names:name:(",
             joined(config::shipped_configs()), ")' }\n");
  if (commands.empty()) return concat(out, "_arguments", zsh_specifications(app), "\n");
  out += concat("local context state state_descr line\ntypeset -A opt_args\n_arguments -C",
                zsh_specifications(app), " \\\n    '1:command:->command' \\\n    '*::argument:->argument'\n",
                "case $state in\n  command)\n    local -a commands=(");
  for (const CLI::App* command : commands)
    out += concat("\n      '", command->get_name(), ":", zsh_text(command->get_description()), "'");
  out += ")\n    _describe command commands ;;\n  argument)\n    case $words[1] in\n";
  for (const CLI::App* command : commands)
    out += concat("    ", command->get_name(), ") _arguments", zsh_specifications(*command), " ;;\n");
  return out + "    esac ;;\nesac\n";
}

}  // namespace

std::string completion(const CLI::App& app, const std::string& shell) {
  if (shell == "bash") return bash(app);
  if (shell == "zsh") return zsh(app);
  throw ConfigError(concat("--print-completion: expected bash or zsh, found ", shell));
}

}  // namespace apo::apps
