#include "app_main.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <torch/headeronly/version.h>

#include <iostream>
#include <string_view>

#include "apo/base/device.h"
#include "apo/base/finishing.h"
#include "apo/base/location.h"
#include "apo/base/log.h"
#include "apo/base/metric_list.h"
#include "apo/base/plugin.h"
#include "apo/base/provenance.h"
#include "apo/base/text.h"
#include "apo/base/version.h"
#include "apo/config/key_reference.h"
#include "apo/config/options.h"
#include "apo/config/shipped.h"
#include "apo/serving/browser.h"
#include "apo/simulation/tabletop.h"
#include "completion.h"
#include "printable_output.h"

namespace apo::apps {
namespace {

constexpr const char* kReferenceTitle =
    "# Every key of the config\n\nAll programs read one YAML file with these sections; each uses those that "
    "concern it. "
    "Paths are relative to the file (in `--set`: to the working directory). `extends: FILE` (or the name of "
    "a shipped config) at the top: what FILE says holds "
    "too, where this one does not say otherwise (key by key; a list wins whole, an empty section takes its "
    "defaults). This page is the output of "
    "`apo-train --print-reference`; `--print-schema` prints the same as a JSON schema for editors.\n\n";

constexpr const char* kMetricsTitle =
    "\n## Metrics\n\nWhat `metrics.jsonl` (one object a step, `step` first) and TensorBoard hold. A number "
    "that an objective or a batch does not have is null, and left out of TensorBoard. `eval/...` of the "
    "evaluations between "
    "(`train.eval_every`) stand beside them.\n\n";

constexpr const char* kExitCodes =
    "Exit codes:\n  0 done   2 wrong usage or config   3 wrong data or checkpoint   4 failure while running\n"
    "  130 stopped by Ctrl-C, SIGTERM or SIGHUP";

int fail(const CLI::App& app, ExitCode code, const std::string& message) {
  std::string_view whole = message;
  while (whole.ends_with('\n')) whole.remove_suffix(1);
  std::cerr << app.get_name() << ": " << printable(whole) << std::endl;
  return static_cast<int>(code);
}

LogLevel log_level(const std::string& name) {
  if (name == "debug") return LogLevel::debug;
  if (name == "warn") return LogLevel::warn;
  if (name == "error") return LogLevel::error;
  return LogLevel::info;
}

// What this program is made of and what the machine offers: the first thing to look at when something is not
// found.
std::string about() {
  const CudaState& cuda = cuda_state();
  const std::string mujoco = simulation::Tabletop::problem();
  return concat(version(), "\ncommit    ", provenance().commit, "\nlibrary   ", own_file().string(),
                "\nLibTorch  ", TORCH_VERSION, " ",
                file_of(reinterpret_cast<const void*>(&at::globalContext)).string(), "\nMuJoCo    ",
                mujoco.empty() ? "there" : mujoco, "\nGPU       ",
                cuda.devices > 0 ? concat(cuda.devices, " usable") : cuda.problem);
}

}  // namespace

void add_config_options(CLI::App& app, ConfigArguments& arguments) {
  app.add_option("--config", arguments.config,
                 "YAML file, or the name of a shipped config (tabletop); --print-reference lists every key")
      ->type_name("FILE|NAME");
  app.add_option("--set", arguments.overrides, "override one key: --set objective.beta=0.2 (repeatable)")
      ->type_name("KEY.PATH=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--plugin", arguments.plugins,
                 "shared library that registers policies, environments or people of your own (repeatable)")
      ->type_name("FILE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--print-config", arguments.print_config,
               "print the resolved config with every default, and stop");
  app.add_flag("--print-schema", arguments.print_schema,
               "print a JSON schema of the config for editors, and stop");
  app.add_flag("--print-reference", arguments.print_reference, "print docs/config.md: every key, and stop");
}

void add_existing_run_options(CLI::App& app, ExistingRunArguments& arguments) {
  auto* resume = app.add_flag("--resume", arguments.resume, "go on where an earlier run in run.dir stopped");
  app.add_flag("--overwrite", arguments.overwrite, "delete an earlier run in run.dir first")
      ->excludes(resume);
}

training::ExistingRun ExistingRunArguments::value() const {
  if (resume) return training::ExistingRun::resume;
  return overwrite ? training::ExistingRun::overwrite : training::ExistingRun::refuse;
}

std::optional<RunConfig> read_config(const ConfigArguments& arguments, ConfigNeed need) {
  serving::register_browser_human();  // so that a config may name it, whoever reads it
  for (const std::string& plugin : arguments.plugins) load_plugin(plugin);
  const config::VisitFunction every_key = [](config::Visitor& v) {
    RunConfig defaults;
    defaults.visit(v);
  };
  if (arguments.print_schema || arguments.print_reference) {
    if (arguments.print_schema)
      std::cout << config::json_schema(every_key) << "\n";
    else
      std::cout << kReferenceTitle << config::markdown_reference(every_key) << kMetricsTitle
                << metric_table();
    return std::nullopt;
  }
  // without a file, the defaults with the overrides
  const config::Document document = arguments.config.empty()
                                        ? config::Document::from_text("", arguments.overrides, ".", "--set")
                                        : config::open_config(arguments.config, arguments.overrides);
  auto config = config::load<RunConfig>(document);
  if (arguments.print_config) {
    std::cout << config::print(config, true);
    return std::nullopt;
  }
  APO_CHECK(ConfigError, need == ConfigNeed::optional || !arguments.config.empty(),
            "--config FILE is required");
  set_log_level(log_level(config.training.logging.level));
  training::set_up_arithmetic(config.training.run);
  log_debug("the tensor library has ", at::get_num_threads(), " threads");
  return config;
}

namespace {

std::string yaml_text(const std::string& value) {
  std::string text = "'";
  for (const char c : value) text += c == '\'' ? std::string("''") : std::string(1, c);
  return text + "'";
}

}  // namespace

serving::RefinePlan plan_refinement(const ConfigArguments& arguments, const RunConfig& config,
                                    const std::filesystem::path& recording) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path self = fs::canonical("/proc/self/exe", error);
  const fs::path program = self.parent_path() / "apo-train";
  if (error || !fs::exists(program, error) || recording.empty()) return {};
  const serving::RefineNowOptions& options = config.serve.refine;
  std::vector<std::string> command = {program.string()};
  const auto add = [&](const char* option, const std::string& value) {
    command.insert(command.end(), {option, value});
  };
  for (const std::string& plugin : arguments.plugins) add("--plugin", plugin);
  if (options.config.empty()) {
    if (!arguments.config.empty()) add("--config", arguments.config);
    for (const std::string& setting : arguments.overrides) add("--set", setting);
  } else {  // another config, but the policy that is served
    add("--config", options.config);
    const models::PolicyOptions& policy = config.training.policy;
    for (const auto& [key, value] : {std::pair{"checkpoint", policy.checkpoint},
                                     {"adapter", policy.adapter},
                                     {"unnorm_key", policy.unnorm_key}})
      if (!value.empty()) add("--set", concat("policy.", key, "=", yaml_text(value)));
  }
  fs::path directory = options.directory;
  if (directory.empty()) directory = recording.parent_path() / concat(recording.stem().string(), "-refined");
  // what was collected in an environment is tried there; what was served is served again
  const char* const after = self.filename() == "apo-collect" ? "apo-eval" : "apo-serve";
  std::vector<std::string> next = {fs::proximate(self.parent_path() / after, error).string()};
  if (!arguments.config.empty()) next.insert(next.end(), {"--config", arguments.config});
  for (const std::string& setting : arguments.overrides)
    if (!setting.starts_with("policy.checkpoint=")) next.insert(next.end(), {"--set", setting});
  return {.command = std::move(command),
          .directory = fs::absolute(directory),
          .updates = options.config.empty() ? config.training.train.max_steps : 0,
          .next = shell_line(next)};
}

void add_examples(CLI::App& app, const Examples& examples) {
  std::string text = "Examples:\n";
  for (const auto& [command, what] : examples) text += concat("  ", command, "\n      ", what, "\n");
  app.footer(concat(text, "\n", kExitCodes));
}

namespace {

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

bool lacks_command(const CLI::App& app, const CLI::ParseError& error) {
  return dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && !commands_of(app).empty() &&
         app.get_subcommands().empty();
}

std::string expected_command(const CLI::App& app, int argc, char** argv) {
  const std::vector<std::string> names = commands_of(app);
  const std::string found = argc > 1 && argv[1][0] != '-' ? argv[1] : "none";
  const auto near = config::nearest(found, names);
  return concat("expected a command (", join(names), "), found ", found,
                near ? concat("; did you mean ", *near, "?") : "");
}

}  // namespace

int run_app(CLI::App& app, int argc, char** argv, const std::function<void()>& body) {
  if (version() != APO_VERSION)  // two installations, and LD_LIBRARY_PATH prefers the other's library
    return fail(app, ExitCode::run,
                concat("expected the library of apo " APO_VERSION ", found ", own_file().string(), " of apo ",
                       version(), "; is another installation in LD_LIBRARY_PATH?"));
  set_command(app.get_name(), argc, argv);
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) command->footer(kExitCodes);
  const PrintableOutput printable_output(std::cout);
  app.add_option_function<std::string>(
         "--print-completion",
         [&app](const std::string& shell) {
           std::string file = completion(app, shell);
           file.pop_back();  // the line feed that comes again
           throw CLI::CallForVersion(file, 0);
         },
         "print the completion file for bash or zsh, and stop")
      ->check(CLI::IsMember({"bash", "zsh"}))
      ->group("");
  app.set_version_flag("--version", about,
                       "print the version, where the libraries lie and what the machine offers, and stop");
  app.get_formatter()->column_width(34);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    if (lacks_command(app, error)) return fail(app, ExitCode::usage, expected_command(app, argc, argv));
    return fail(app, ExitCode::usage,
                concat(error.what(), " (", app.get_name(), " --help lists the options)"));
  }
  catch_interrupts(app.get_name());
  try {
    body();
    std::cout.flush();
    return std::cout ? static_cast<int>(ExitCode::done)
                     : fail(app, ExitCode::run, "standard output: what was printed could not be written");
  } catch (const Error& error) {
    return fail(app, error.exit_code(), error.what());
  } catch (const Bug& bug) {
    return fail(app, ExitCode::run, concat("a bug in this program, please report it: ", bug.what()));
  } catch (const c10::Error& error) {
    return fail(app, ExitCode::run, concat("tensor library: ", error.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    return fail(app, ExitCode::run, "out of memory");
  } catch (const std::exception& error) {
    return fail(app, ExitCode::run, error.what());
  }
}

}  // namespace apo::apps
