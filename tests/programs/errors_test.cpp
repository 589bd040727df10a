// What users see when something is wrong: one message that names the place, and the exit code of its kind.
#include <gmock/gmock.h>

#include <filesystem>

#include "programs/tiny_loop.h"
#include "support/places.h"

namespace apo::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class Errors : public TinyLoop {
 protected:
  /// One message on the last line, nothing of a stack trace.
  static void expect_error(const ProgramResult& result, int exit_code,
                           const ::testing::Matcher<std::string>& message) {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_THAT(result.err, message);
    EXPECT_THAT(result.err,
                AllOf(Not(HasSubstr("what():")), Not(HasSubstr("frame #")), Not(HasSubstr("terminate"))));
  }
};

TEST_F(Errors, HelpAndVersionAreNone) {
  for (const char* program :
       {"apo-train", "apo-eval", "apo-collect", "apo-refine", "apo-serve", "apo-data"}) {
    EXPECT_EQ(run_program(program, {"--help"}).exit_code, 0) << program;
    EXPECT_THAT(run_program(program, {"--version"}).out, HasSubstr("0.1.0")) << program;
  }
}

TEST_F(Errors, EveryProgramHasTheThreadsOfTheConfig) {
  for (const char* program :
       {"apo-train", "apo-eval", "apo-collect", "apo-refine", "apo-serve", "apo-data"}) {
    std::vector<std::string> arguments = {set("run.threads=3"), set("logging.level=debug"),
                                          set("run.dir=\"\"")};
    arguments.insert(arguments.end(), {"--config", config()});
    if (program == std::string("apo-data")) arguments.insert(arguments.begin(), "inspect");
    // read first; then each stops at what the config lacks
    EXPECT_THAT(run_program(program, arguments).err, HasSubstr("the tensor library has 3 threads"))
        << program;
  }
}

TEST(Reference, DocsListEveryKeyAsTheProgramsDo) {
  EXPECT_EQ(run_program("apo-train", {"--print-reference"}).out,
            slurp(apo::testing::in_source("docs/config.md")))
      << "run apo-train --print-reference > docs/config.md";
}

TEST(Reference, EveryConfigOfTheProjectIsValid) {
  for (const auto& entry : std::filesystem::directory_iterator(apo::testing::in_source("configs"))) {
    const auto result = run_program("apo-train", {"--config", entry.path().string(), "--print-config"});
    EXPECT_EQ(result.exit_code, 0) << entry.path() << ": " << result.err;
  }
}

TEST(Reference, AConfigByNameWritesBelowTheWorkingDirectory) {
  const TempDir dir;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(dir.path());
  const auto result = run_program("apo-refine", {"--config", "tabletop", "--print-config"});
  std::filesystem::current_path(before);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              HasSubstr("dir: " + (std::filesystem::canonical(dir.path()) / "runs/tabletop").string()));
}

TEST_F(Errors, UnknownOptionIsUsage) { expect_error(run("apo-train", {"--resum"}), 2, HasSubstr("--resum")); }

TEST_F(Errors, AnUnknownCommandIsSuggested) {
  expect_error(
      run_program("apo-data", {"valdate", "demos.hdf5"}), 2,
      AllOf(HasSubstr("expected a command (inspect, "), HasSubstr("found valdate; did you mean validate?")));
  expect_error(run_program("apo-data", {}), 2, HasSubstr("found none"));
}

TEST_F(Errors, SeveralMistakesStandOnOneLine) {
  const auto result = run("apo-train", {set("train.batch_sice=1"), set("run.sede=2")});
  expect_error(result, 2,
               AllOf(HasSubstr("'run.seed'?); --set train.batch_sice=1: "), Not(HasSubstr("\\n"))));
  EXPECT_EQ(result.err.find('\n') + 1, result.err.size());
}

// Told before the first step: what train.eval_every would come upon.
TEST_F(Errors, AnEnvironmentWithoutThePolicysCameraIsToldBeforeTheFirstStep) {
  record_demonstrations();
  auto arguments = sft("base");
  for (const char* more : {"train.eval_every=2", "environment.tabletop.cameras=[wrist]"})
    arguments.push_back(set(more));
  expect_error(run("apo-train", arguments), 2,
               AllOf(HasSubstr("train.eval_every: environment "),
                     HasSubstr("needs the camera \"front\"; there are: wrist")));
  EXPECT_FALSE(std::filesystem::exists(path("base/config.yaml")));
}

TEST_F(Errors, ADamagedCheckpointNamesTheDirectoryToRemove) {
  train_base();
  const auto latest = std::filesystem::read_symlink(path("base/checkpoints/latest")).string();
  ASSERT_EQ(latest, "step-6");
  std::string weights = slurp(path("base/checkpoints/step-6/policy/model.safetensors"));
  weights.back() ^= 1;
  spit(path("base/checkpoints/step-6/policy/model.safetensors"), weights);
  expect_error(
      run("apo-eval", {set("policy.checkpoint=" + path("base"))}), 3,
      HasSubstr("(remove " + path("base/checkpoints/step-6") + ", and --resume goes on from there)"));
  std::filesystem::remove_all(path("base/checkpoints/step-6"));
  EXPECT_EQ(run("apo-train", sft("base", {"--resume"})).exit_code, 0);
}

TEST_F(Errors, MissingConfigFileIsNamed) {
  expect_error(run_program("apo-train", {"--config", path("no.yaml")}), 2, HasSubstr("no.yaml"));
  expect_error(run_program("apo-train", {}), 2, HasSubstr("--config"));
}

TEST_F(Errors, UnknownKeyIsSuggestedWithItsLine) {
  spit(config(), "run: {dir: run}\nobjective:\n  betta: 0.2\n");
  expect_error(run("apo-train", {}), 2,
               AllOf(HasSubstr("tiny.yaml:3"), HasSubstr("objective.betta"), HasSubstr("objective.beta")));
}

TEST_F(Errors, MistypedValueNamesKeyAndValue) {
  expect_error(run("apo-train", {set("objective.beta=strong")}), 2,
               AllOf(HasSubstr("objective.beta"), HasSubstr("strong")));
  expect_error(run("apo-train", {set("objective.z0=sometimes")}), 2,
               AllOf(HasSubstr("objective.z0"), HasSubstr("shifted-labels")));
}

TEST_F(Errors, MissingDataFileIsNamed) {
  expect_error(run("apo-train", sft("base")), 3, HasSubstr("demos.hdf5"));
}

TEST_F(Errors, NonHdf5FileIsNamed) {
  spit(path("demos.hdf5"), "this is not HDF5");
  expect_error(run("apo-train", sft("base")), 3, AllOf(HasSubstr("demos.hdf5"), HasSubstr("HDF5")));
}

TEST_F(Errors, TruncatedFileIsNamed) {
  record_demonstrations();
  std::filesystem::resize_file(path("demos.hdf5"), std::filesystem::file_size(path("demos.hdf5")) / 2);
  expect_error(run("apo-train", sft("base")), 3, HasSubstr("demos.hdf5"));
}

TEST_F(Errors, EmptyPoolNamesThePoolAndTheOption) {
  train_base();
  expect_error(
      run("apo-train", {expert(), set("policy.checkpoint=" + path("base")), set("run.dir=" + path("apo"))}),
      2, AllOf(HasSubstr("data.pools"), HasSubstr("intervention")));
  EXPECT_FALSE(std::filesystem::exists(path("apo/checkpoints")));
}

TEST_F(Errors, UsedRunDirectoryIsNotOverwritten) {
  train_base();
  expect_error(run("apo-train", sft("base")), 2, AllOf(HasSubstr("--resume"), HasSubstr("--overwrite")));
  EXPECT_EQ(run("apo-train", sft("base", {"--overwrite"})).exit_code, 0);
}

TEST_F(Errors, ResumeWithAnotherConfigNamesTheKey) {
  train_base();
  expect_error(run("apo-train", sft("base", {"--resume", set("optimizer.learning_rate=0.5")})), 2,
               HasSubstr("optimizer.learning_rate"));
}

TEST_F(Errors, UnwritableRunDirectoryIsNamed) {
  record_demonstrations();
  spit(path("occupied"), "a file");
  expect_error(run("apo-train", sft("occupied/run")), 4, HasSubstr("occupied"));
}

TEST_F(Errors, RunDirectoryInUseIsNamed) {
  record_demonstrations();
  RunningProgram first(
      "apo-train",
      [&] {
        auto arguments = sft("base", {set("train.max_steps=100000"), set("train.checkpoint_every=100000")});
        arguments.insert(arguments.begin(), {"--config", config()});
        return arguments;
      }(),
      dir_.path());
  while (first.running() && slurp(path("base/metrics.jsonl")).empty()) ::usleep(20000);
  ASSERT_TRUE(first.running()) << first.wait().err;
  expect_error(run("apo-train", sft("base", {"--resume"})), 4, AllOf(HasSubstr("base"), HasSubstr("in use")));
}

TEST_F(Errors, TruncatedCheckpointIsNamed) {
  train_base();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path("base/checkpoints")))
    if (entry.path().filename() == "model.safetensors") std::filesystem::resize_file(entry.path(), 300);
  expect_error(run("apo-eval", {set("policy.checkpoint=" + path("base"))}), 3,
               HasSubstr("model.safetensors"));
}

TEST_F(Errors, MissingCheckpointSaysWhereItLooked) {
  expect_error(run("apo-eval", {set("policy.checkpoint=" + path("nowhere"))}), 3, HasSubstr("nowhere"));
  expect_error(run("apo-eval", {}), 2, HasSubstr("policy.checkpoint"));
}

TEST_F(Errors, ExistingRecordingIsNotOverwritten) {
  record_demonstrations();
  expect_error(run("apo-collect", {"--demonstrations", "--output", path("demos.hdf5")}), 2,
               HasSubstr("demos.hdf5"));
}

}  // namespace
}  // namespace apo::testing
