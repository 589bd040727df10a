// Reading YAML into structs: values, and the one message for each thing that can be wrong.
#include <fstream>

#include "config/robot_options.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo::config {
namespace {

using ::testing::HasSubstr;

TEST(Read, EmptyConfigKeepsDefaults) {
  EXPECT_EQ(read(""), RobotOptions());
  EXPECT_EQ(read("# nothing but a comment\n"), RobotOptions());
  EXPECT_EQ(read("{}"), RobotOptions());
}

TEST(Read, EveryKindOfField) {
  const RobotOptions options = read(R"(
instruction: "put the cup: here"
checkpoint: models/policy
seed: 7
max_steps: 20
pools: [1, 0.5, 0]
sizes: [3, 0x10, 1e3]
cameras: [front, wrist]
expert:
  - path: a.hdf5
    limit: 5
  - {path: /data/b.hdf5, share: 0.5}
objective:
  beta: 2.5e-1
  kl_max: 5
  reduction: sum
  type: kto
  weights: {desirable: 3, normalize: false}
)");
  RobotOptions expected;
  expected.instruction = "put the cup: here";
  expected.checkpoint = "/configs/models/policy";
  expected.seed = 7;
  expected.max_steps = 20;
  expected.pools = {1, 0.5, 0};
  expected.sizes = {3, 16, 1000};
  expected.cameras = {"front", "wrist"};
  expected.expert = {{.path = "/configs/a.hdf5", .limit = 5, .share = {}},
                     {.path = "/data/b.hdf5", .limit = 0, .share = 0.5}};
  expected.objective = {.beta = 0.25,
                        .kl_max = 5,
                        .reduction = Reduction::sum,
                        .type = "kto",
                        .weights = {.desirable = 3, .normalize = false}};
  EXPECT_EQ(options, expected);
}

TEST(Read, NullIsAbsenceForOptionalsSectionsAndLists) {
  const RobotOptions options = read("max_steps: null\nobjective:\nexpert:\npools: ~\n");
  EXPECT_FALSE(options.max_steps.has_value());
  EXPECT_EQ(options.objective, ObjectiveOptions());
  EXPECT_TRUE(options.expert.empty());
  EXPECT_EQ(options.pools.size(), 3u);
  EXPECT_THAT(error_of("\nseed:\n"),
              HasSubstr("x.yaml:2: seed: expected an integer >= 0, found nothing (null)"));
  EXPECT_THAT(error_of("instruction: null"),
              HasSubstr("x.yaml:1: instruction: expected a text, found nothing"));
}

TEST(Read, TextFieldsTakeWhateverIsWritten) {
  EXPECT_EQ(read("instruction: 12").instruction, "12");
  EXPECT_EQ(read("instruction: yes").instruction, "yes");
  EXPECT_EQ(read("instruction: 'null'").instruction, "null");
  EXPECT_EQ(read("instruction: ''").instruction, "");
  EXPECT_EQ(read("instruction: |\n  two\n  lines\n").instruction, "two\nlines\n");
}

TEST(Read, WrongTypesNameFileLineKeyAndValue) {
  EXPECT_EQ(error_of("seed: 1\nobjective:\n  beta: abc\n"),
            "x.yaml:3: objective.beta: expected a number > 0, found 'abc'");
  EXPECT_EQ(error_of("objective: {beta: '0.5'}"),
            "x.yaml:1: objective.beta: expected a number > 0, found the text '0.5'");
  EXPECT_EQ(error_of("seed: 1.5"), "x.yaml:1: seed: expected an integer >= 0, found '1.5'");
  EXPECT_EQ(error_of("seed: [1]"), "x.yaml:1: seed: expected an integer >= 0, found a list");
  EXPECT_EQ(error_of("seed: {a: 1}"), "x.yaml:1: seed: expected an integer >= 0, found a section");
  EXPECT_EQ(error_of("instruction: [a]"), "x.yaml:1: instruction: expected a text, found a list");
  EXPECT_EQ(error_of("checkpoint: {a: b}"), "x.yaml:1: checkpoint: expected a text, found a section");
  EXPECT_EQ(error_of("pools: 3"), "x.yaml:1: pools: expected a list of numbers, found '3'");
  EXPECT_EQ(error_of("sizes: {}"), "x.yaml:1: sizes: expected a list of integers, found a section");
  EXPECT_EQ(error_of("cameras: front"), "x.yaml:1: cameras: expected a list of texts, found 'front'");
  EXPECT_EQ(error_of("cameras:\n- a\n- [b]"), "x.yaml:3: cameras.1: expected a text, found a list");
  EXPECT_EQ(error_of("sizes:\n- 1\n- 2.5\n"), "x.yaml:3: sizes.1: expected an integer >= 1, found '2.5'");
  EXPECT_EQ(error_of("objective: 5"), "x.yaml:1: objective: expected a section (key: value), found '5'");
  EXPECT_EQ(error_of("expert: {path: a}"), "x.yaml:1: expert: expected a list of sections, found a section");
  EXPECT_EQ(error_of("expert:\n- a.hdf5"),
            "x.yaml:2: expert.0: expected a section (key: value), found 'a.hdf5'");
  EXPECT_EQ(error_of("expert:\n- path: a\n- path: b\n  limit: -1\n"),
            "x.yaml:4: expert.1.limit: expected an integer >= 0, found '-1'");
  EXPECT_EQ(error_of("- a\n- b"), "x.yaml:1: expected sections (key: value), found a list");
  EXPECT_EQ(error_of("\njust words"), "x.yaml:2: expected sections (key: value), found 'just words'");
}

TEST(Read, BooleansAreTrueOrFalseOnly) {
  EXPECT_FALSE(read("objective: {weights: {normalize: false}}").objective.weights.normalize);
  EXPECT_TRUE(read("objective: {weights: {normalize: true}}").objective.weights.normalize);
  for (const std::string wrong : {"yes", "no", "on", "1", "0", "True", "'true'", "null"}) {
    EXPECT_THAT(error_of("objective: {weights: {normalize: " + wrong + "}}"),
                HasSubstr("x.yaml:1: objective.weights.normalize: expected true or false, found "))
        << wrong;
  }
}

TEST(Read, IntegersMayBeWrittenAsExactFloats) {
  EXPECT_EQ(read("seed: 1e3").seed, 1000);
  EXPECT_EQ(read("seed: 2.0").seed, 2);
  EXPECT_EQ(read("seed: +5").seed, 5);
  EXPECT_EQ(read("seed: 9223372036854775807").seed, std::numeric_limits<int64_t>::max());
  for (const std::string wrong : {"1e-3", "9223372036854775808", "1e300", "0x", "0x-1", "+-5", "--5", "1_000",
                                  "1e", "1.5e0", ".inf", ".nan", "inf", "1,000", "1 2"}) {
    EXPECT_THAT(error_of("seed: \n  " + wrong),
                HasSubstr("x.yaml:2: seed: expected an integer >= 0, found '" + wrong))
        << wrong;
  }
}

TEST(Read, NumbersAreFiniteUnlessInfinityMakesSense) {
  EXPECT_EQ(error_of("objective: {beta: .inf}"),
            "x.yaml:1: objective.beta: expected a finite number > 0, found '.inf'");
  EXPECT_EQ(error_of("objective: {beta: .nan}"),
            "x.yaml:1: objective.beta: expected a finite number > 0, found '.nan'");
  EXPECT_EQ(read("objective: {kl_max: .inf}").objective.kl_max, HUGE_VAL);
  EXPECT_EQ(read("objective: {kl_max: -.inf}").objective.kl_max, -HUGE_VAL);
  EXPECT_EQ(error_of("objective: {kl_max: .nan}"),
            "x.yaml:1: objective.kl_max: expected a finite number, found '.nan'");
  for (const std::string wrong : {"nan", "inf", "1e999", "0.1.2", "1..", "e5", "-", ".", "1d", "0x1p3"})
    EXPECT_THAT(error_of("objective: {beta: " + wrong + "}"), HasSubstr("expected a number > 0, found"))
        << wrong;
}

TEST(Read, RangesIncludeTheirEndsUnlessOpen) {
  EXPECT_EQ(read("pools: [0, 1]").pools, (std::vector<double>{0, 1}));
  EXPECT_EQ(error_of("pools: [0, 1.5]"), "x.yaml:1: pools.1: expected a number in [0, 1], found '1.5'");
  EXPECT_EQ(error_of("pools: [-0.1]"), "x.yaml:1: pools.0: expected a number in [0, 1], found '-0.1'");
  EXPECT_EQ(error_of("objective: {beta: 0}"), "x.yaml:1: objective.beta: expected a number > 0, found '0'");
  EXPECT_EQ(error_of("max_steps: 0"), "x.yaml:1: max_steps: expected an integer >= 1, found '0'");
  EXPECT_EQ(error_of("expert: [{share: 2}]"),
            "x.yaml:1: expert.0.share: expected a number in [0, 1], found '2'");
}

TEST(Read, ChoicesAndEnumsListWhatIsValid) {
  EXPECT_EQ(error_of("objective: {type: apoo}"),
            "x.yaml:1: objective.type: expected one of apo, kto, dpo, found 'apoo' (did you mean 'apo'?)");
  EXPECT_EQ(
      error_of("objective:\n  reduction: median"),
      "x.yaml:2: objective.reduction: expected one of mean, sum, found 'median' (did you mean 'mean'?)");
  EXPECT_EQ(error_of("objective: {reduction: 1}"),
            "x.yaml:1: objective.reduction: expected one of mean, sum, found '1'");
  EXPECT_EQ(error_of("objective: {reduction: [mean]}"),
            "x.yaml:1: objective.reduction: expected one of mean, sum, found a list");
}

TEST(Read, UnknownKeysSuggestTheNearest) {
  EXPECT_EQ(error_of("objectve:\n  beta: 1\n"),
            "x.yaml:1: unknown key 'objectve.beta' (did you mean 'objective.beta'?)");
  // the very name one section further down, before one that looks like it
  EXPECT_EQ(error_of("objective:\n  normalize: true\n"),
            "x.yaml:2: unknown key 'objective.normalize' (did you mean 'objective.weights.normalize'?)");
  EXPECT_EQ(error_of("objectve:\n  beta: 1\n  type: kto\n"),
            "x.yaml:1: unknown key 'objectve' (did you mean 'objective'?)");
  EXPECT_EQ(error_of("objective:\n  betta: 1\n"),
            "x.yaml:2: unknown key 'objective.betta' (did you mean 'objective.beta'?)");
  EXPECT_EQ(error_of("Max-Steps: 1"), "x.yaml:1: unknown key 'Max-Steps' (did you mean 'max_steps'?)");
  EXPECT_EQ(error_of("expert:\n- paht: a\n"),
            "x.yaml:2: unknown key 'expert.0.paht' (did you mean 'expert.0.path'?)");
  EXPECT_EQ(error_of("desirable: 1"),
            "x.yaml:1: unknown key 'desirable' (did you mean 'objective.weights.desirable'?)");
  EXPECT_EQ(error_of("objective.beta: 1"),
            "x.yaml:1: unknown key 'objective.beta' (write it as nested sections)");
  EXPECT_EQ(error_of("objective: {weights: {zzzzzz: 1}}"),
            "x.yaml:1: unknown key 'objective.weights.zzzzzz' (valid here: desirable, normalize)");
  EXPECT_THAT(error_of("objective: {reduction: mean, weights: {normalize: true, reduction: sum}}"),
              HasSubstr("unknown key 'objective.weights.reduction' (did you mean 'objective.reduction'?)"));
}

TEST(Read, AllProblemsComeInOneMessage) {
  EXPECT_EQ(error_of("sede: 1\nobjective:\n  beta: -1\n  bta: 2\ncamera: [a]\n"),
            "x.yaml:3: objective.beta: expected a number > 0, found '-1'; "
            "x.yaml:4: unknown key 'objective.bta' (did you mean 'objective.beta'?); "
            "x.yaml:1: unknown key 'sede' (did you mean 'seed'?); "
            "x.yaml:5: unknown key 'camera' (did you mean 'cameras'?)");
  std::string many;
  for (int i = 0; i < 30; ++i) many += concat("unknown_", i, ": 1\n");
  EXPECT_THAT(error_of(many), HasSubstr("; and 10 more"));
}

TEST(Read, DuplicateKeysAreErrors) {
  EXPECT_EQ(error_of("seed: 1\nobjective:\n  beta: 1\n  type: apo\n  beta: 2\n"),
            "x.yaml:5: duplicate key 'beta' (first on line 3)");
  EXPECT_EQ(error_of("seed: 1\nseed: 1\n"), "x.yaml:2: duplicate key 'seed' (first on line 1)");
}

TEST(Read, BrokenYamlNamesTheLine) {
  EXPECT_THAT(error_of("seed: 1\nobjective: {beta: 1\n"), HasSubstr("x.yaml:3: not valid YAML: "));
  EXPECT_THAT(error_of("seed: 1\n\tbeta: 2\n"), HasSubstr("x.yaml:2: "));
  EXPECT_THAT(error_of("a: *nowhere"), HasSubstr("x.yaml:1: not valid YAML: "));
  EXPECT_THAT(error_of("seed: 1\n---\nseed: 2\n"), HasSubstr("expected one YAML document"));
}

TEST(Read, AnchorsAndMergeKeys) {
  const RobotOptions options = read(R"(
objective:
  weights: &w {desirable: 4, normalize: false}
expert:
  - &first {path: a, limit: 2, share: 0.5}
  - {<<: *first, path: b}
  - <<: [{limit: 9}, *first]
    path: c
)");
  EXPECT_EQ(options.expert[1], (SourceOptions{.path = "/configs/b", .limit = 2, .share = 0.5}));
  EXPECT_EQ(options.expert[2], (SourceOptions{.path = "/configs/c", .limit = 9, .share = 0.5}));
  EXPECT_EQ(error_of("objective:\n  <<: 5\n"),
            "x.yaml:2: a merge key '<<' with anything but maps is not supported here");
  EXPECT_THAT(error_of("objective: &a\n  weights: *a\n"), HasSubstr("an alias inside its own anchor"));
}

TEST(Read, WhatAConfigHasNoUseForIsRefused) {
  EXPECT_EQ(error_of("seed: !include other.yaml"), "x.yaml:1: the tag '!include' is not supported here");
  EXPECT_THAT(error_of("? [a, b]\n: 1\n"), HasSubstr("x.yaml:1: a list or map as a key, or"));
  EXPECT_THAT(error_of("instruction: \"\\N\""),
              HasSubstr("x.yaml:1: an escape that yields no Unicode character"));
  EXPECT_THAT(error_of("~: 1\n"), HasSubstr("a key that is not a word"));
  EXPECT_THAT(error_of(std::string("seed: 1\0", 8)),
              HasSubstr("x.yaml: expected text, found control characters"));
  EXPECT_THAT(error_of("instruction: \xff\xfe"), HasSubstr("x.yaml: expected UTF-8 text, found other bytes"));
  EXPECT_EQ(read("instruction: \"gr\u00fc\u00df dich \U0001F916\"").instruction,
            "gr\u00fc\u00df dich \U0001F916");
}

TEST(Read, PathsAreRelativeToTheFile) {
  EXPECT_EQ(read("checkpoint: ../models//policy/").checkpoint, "/models/policy");
  EXPECT_EQ(read("checkpoint: /a/./b/../c").checkpoint, "/a/c");
  EXPECT_EQ(read("checkpoint: ''").checkpoint, "");
  EXPECT_EQ(read("checkpoint: /").checkpoint, "/");
  EXPECT_EQ(read("expert: [{path: 'demos/*.hdf5'}]").expert[0].path, "/configs/demos/*.hdf5");
}

TEST(Read, FilesAreNamedAsTheyWereGiven) {
  const apo::testing::TempDir dir;
  std::ofstream(dir / "run.yaml") << "checkpoint: policy\nsed: 1\n";
  try {
    load<RobotOptions>(Document::from_file(dir / "run.yaml"));
    FAIL() << "expected an error";
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.what(), (dir / "run.yaml").string() + ":2: unknown key 'sed' (did you mean 'seed'?)");
  }
  std::ofstream(dir / "run.yaml") << "checkpoint: policy\n";
  EXPECT_EQ(load<RobotOptions>(Document::from_file(dir / "run.yaml")).checkpoint, (dir / "policy").string());
  for (const std::filesystem::path& missing : {dir / "none.yaml", dir.path()}) {
    try {
      Document::from_file(missing);
      FAIL() << "expected an error for " << missing;
    } catch (const ConfigError& error) {
      EXPECT_THAT(error.what(), HasSubstr(missing.string() + ": "));
    }
  }
}

TEST(Extends, WhatTheFileSaysHoldsWhereThisOneSaysNothing) {
  const apo::testing::TempDir dir;
  std::filesystem::create_directories(dir / "shared");
  std::ofstream(dir / "shared/base.yaml") << "seed: 1\ncheckpoint: policy\nsizes: [1]\nobjective: "
                                             "{beta: 0.5, kl_max: 3}\nexpert: [{path: a}, {path: b}]\n";
  std::ofstream(dir / "middle.yaml") << "extends: shared/base.yaml\nseed: 2\nobjective: {kl_max: 4}\n";
  std::ofstream(dir / "run.yaml") << "extends: middle.yaml\nexpert: [{path: c}]\n";
  const auto run = load<RobotOptions>(Document::from_file(dir / "run.yaml", {"objective.beta=0.25"}));
  EXPECT_EQ(run.seed, 2);
  EXPECT_EQ(run.objective.beta, 0.25) << "an override wins over all files";
  EXPECT_EQ(run.objective.kl_max, 4) << "key by key";
  ASSERT_EQ(run.expert.size(), 1u) << "a list wins whole";
  EXPECT_EQ(run.expert[0].path, (dir / "c").string());
  EXPECT_EQ(run.checkpoint, (dir / "shared/policy").string()) << "relative to the file that says it";
  EXPECT_EQ(run.sizes, std::vector<int64_t>{1});
  std::ofstream(dir / "run.yaml") << "extends: middle.yaml\nobjective:\n";
  EXPECT_EQ(load<RobotOptions>(Document::from_file(dir / "run.yaml")).objective, ObjectiveOptions())
      << "an empty section takes its defaults";
  std::ofstream(dir / "run.yaml") << "extends: middle.yaml\nobjective: {}\n";
  EXPECT_EQ(load<RobotOptions>(Document::from_file(dir / "run.yaml")).objective, ObjectiveOptions());
  EXPECT_EQ(load<RobotOptions>(Document::from_file(dir / "run.yaml", {}, "/elsewhere")).checkpoint,
            "/elsewhere/shared/policy");
}

TEST(Extends, ErrorsNameTheFileInWhichTheyAre) {
  const apo::testing::TempDir dir;
  const auto error = [&dir](const std::string& text) {
    std::ofstream(dir / "run.yaml") << text;
    return apo::testing::message_of<ConfigError>(
        [&dir] { load<RobotOptions>(Document::from_file(dir / "run.yaml")); });
  };
  std::ofstream(dir / "base.yaml") << "\nsed: 1\n";
  EXPECT_EQ(error("extends: base.yaml\n"),
            (dir / "base.yaml").string() + ":2: unknown key 'sed' (did you mean 'seed'?)");
  const std::string first = (dir / "run.yaml").string() + ":1: extends: ";
  EXPECT_EQ(error("extends: bas.yaml\n"), first +
                                              "expected the path of a config or the name of a shipped one, "
                                              "found 'bas.yaml', and there is no file " +
                                              (dir / "bas.yaml").string());
  EXPECT_EQ(error("extends: [base.yaml]\n"), first + "expected the path of a config, found a list");
  EXPECT_EQ(error("extends:\n"), first + "expected the path of a config, found nothing (null)");
  EXPECT_EQ(
      error("extends: .\n"),
      first + "expected the path of a config or the name of a shipped one, found '.', and there is no file " +
          (dir / ".").string());
  // what is found is what is read: beyond a linked folder, too
  std::filesystem::create_directories(dir / "real/sub");
  std::filesystem::create_directory_symlink("real/sub", dir / "link");
  std::ofstream(dir / "real/base.yaml") << "seed: 11\n";
  std::ofstream(dir / "real/sub/child.yaml") << "extends: ../base.yaml\n";
  EXPECT_EQ(load<RobotOptions>(Document::from_file(dir / "link/child.yaml")).seed, 11);
  EXPECT_THAT(error("extends: " + std::string(300, 'x') + "\n"), HasSubstr("and there is no file"));
  std::filesystem::create_symlink("loop", dir / "loop");
  EXPECT_THAT(error("extends: loop\n"), HasSubstr(first));
  EXPECT_THAT(error("extends: base\n"), HasSubstr("(did you mean base.yaml?)"));
  // the later file is where a key was said
  std::ofstream(dir / "base.yaml") << "nonsense: {a: 1}\n";
  EXPECT_EQ(
      error("extends: base.yaml\n\nnonsense: {a: 2}\n").substr(0, (dir / "run.yaml").string().size() + 3),
      (dir / "run.yaml").string() + ":3:");
  const auto elsewhere = [](const std::string& text, const std::vector<std::string>& overrides) {
    return apo::testing::message_of<ConfigError>([&] { read(text, overrides); });
  };
  for (const std::string& message :
       {elsewhere("", {"extends=base.yaml"}), elsewhere("objective: {extends: base.yaml}", {})})
    EXPECT_THAT(message, HasSubstr("extends: expected at the top of a file, not in a section or in --set"));
  EXPECT_THAT(elsewhere("extend: base.yaml", {}), HasSubstr("did you mean 'extends'?"));
  EXPECT_THAT(error("extends: run.yaml\n"),
              HasSubstr("expected a chain of at most 8 configs, found a longer one"));
  std::ofstream(dir / "base.yaml") << "- 1\n";
  EXPECT_THAT(error("extends: base.yaml\n"),
              HasSubstr("base.yaml:1: expected sections (key: value), found a list"));
}

TEST(Read, DocumentsCanBeReadTwice) {
  const Document document = Document::from_text("seed: 3");
  EXPECT_EQ(load<RobotOptions>(document), load<RobotOptions>(document));
}

TEST(Read, AStructsOwnCheckJoinsTheOtherProblems) {
  const Document document = Document::from_text("seed: x", {}, ".", "x.yaml");
  int64_t seed = 0;
  try {
    document.read([&](Visitor& v) {
      v("seed", seed, "");
      throw ConfigError("seed and steps contradict each other");
    });
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "x.yaml:1: seed: expected an integer, found 'x'; seed and steps contradict each other");
  }
}

TEST(Read, AFieldVisitedTwiceIsOurMistake) {
  int64_t seed = 0;
  const VisitFunction twice = [&](Visitor& v) {
    v("seed", seed, "");
    v("seed", seed, "");
  };
  EXPECT_THROW(Document::from_text("").read(twice), Bug);
  EXPECT_THROW(print(twice), Bug);
  EXPECT_THROW(print(VisitFunction([&](Visitor& v) { v("a.b", seed, ""); })), Bug);
}

TEST(Nearest, FindsSlipsOfTheFingerOnly) {
  const std::vector<std::string> keys = {"beta", "batch_size", "learning_rate", "k"};
  EXPECT_EQ(nearest("bta", keys), "beta");
  EXPECT_EQ(nearest("baet", keys), std::nullopt);  // two slips in four letters
  EXPECT_EQ(nearest("btea", keys), "beta");        // neighbours swapped count once
  EXPECT_EQ(nearest("batchsize", keys), "batch_size");
  EXPECT_EQ(nearest("LearningRate", keys), "learning_rate");
  EXPECT_EQ(nearest("x", keys), std::nullopt);
  EXPECT_EQ(nearest("K", keys), "k");
  EXPECT_EQ(nearest("", keys), std::nullopt);
  EXPECT_EQ(nearest("beta", {}), std::nullopt);
  EXPECT_EQ(nearest(std::string(100000, 'a'), keys), std::nullopt);
}

struct Elsewhere {
  void visit(Visitor& v) { v.no_section("other", "kind is mine"); }
};

TEST(Read, ASectionThatBelongsElsewhereIsRefusedUnlessEmpty) {
  const auto said = [](const std::string& text) {
    return apo::testing::message_of<ConfigError>([&] { load<Elsewhere>(Document::from_text(text)); });
  };
  EXPECT_EQ(said("other: {beta: 1}"),
            "<text>:1: other: expected no such section where kind is mine, found a section");
  EXPECT_EQ(said("other: 3"), "<text>:1: other: expected no such key where kind is mine, found '3'");
  for (const char* empty : {"", "other:", "other: {}"})
    EXPECT_NO_THROW(load<Elsewhere>(Document::from_text(empty)));
  EXPECT_EQ(print(Elsewhere()), "");
}

}  // namespace
}  // namespace apo::config
