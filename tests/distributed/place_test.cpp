#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "apo/base/error.h"
#include "apo/distributed/group.h"
#include "support/message_of.h"

namespace apo::distributed {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

Place place(const Variables& variables) {
  return place_of([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return {};
    return found->second;
  });
}
std::string refused(const Variables& variables) {
  return testing::message_of<ConfigError>([&] { place(variables); });
}

TEST(Place, IsAloneWithoutALauncher) {
  EXPECT_EQ(place({}).size, 1);
  EXPECT_EQ(place({{"WORLD_SIZE", "1"}, {"RANK", "0"}}).size, 1);
  // a batch script of SLURM is one process, however many tasks its job has
  EXPECT_EQ(place({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}).size, 1);
}

TEST(Place, OfTorchrun) {
  const Place p = place({{"RANK", "5"},
                         {"WORLD_SIZE", "8"},
                         {"LOCAL_RANK", "1"},
                         {"LOCAL_WORLD_SIZE", "4"},
                         {"MASTER_ADDR", "first"},
                         {"MASTER_PORT", "1234"},
                         {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                         {"TORCHELASTIC_RESTART_COUNT", "2"},
                         // of another launcher around it
                         {"SLURM_PROCID", "0"},
                         {"SLURM_STEP_NUM_TASKS", "2"}});
  EXPECT_EQ(p.rank, 5);
  EXPECT_EQ(p.size, 8);
  EXPECT_EQ(p.local_rank, 1);
  EXPECT_EQ(p.address, "first");
  EXPECT_EQ(p.port, 1234);
  EXPECT_TRUE(p.has_agent);
  EXPECT_EQ(p.attempt, "2");
}

TEST(Place, OfMpirun) {
  const Place p = place({{"OMPI_COMM_WORLD_RANK", "1"},
                         {"OMPI_COMM_WORLD_SIZE", "2"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_EQ(p.rank, 1);
  EXPECT_EQ(p.size, 2);
  EXPECT_EQ(p.address, "127.0.0.1");  // all of them are here
  EXPECT_EQ(p.port, 29500);
  EXPECT_FALSE(p.has_agent);
  EXPECT_EQ(place({{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}, {"MASTER_ADDR", "first"}}).rank, 3);
}

TEST(Place, OfSrun) {
  const auto with = [](const std::string& nodes) {
    return place({{"SLURM_PROCID", "9"},
                  {"SLURM_STEP_NUM_TASKS", "16"},
                  {"SLURM_LOCALID", "1"},
                  {"SLURM_JOB_ID", "1234567"},
                  {"SLURM_STEP_NODELIST", nodes}});
  };
  EXPECT_EQ(with("gpu[03-04,07]").address, "gpu03");
  EXPECT_EQ(with("gpu[12,14]").address, "gpu12");
  EXPECT_EQ(with("a,b").address, "a");
  EXPECT_EQ(with("alone").address, "alone");
  EXPECT_EQ(with("alone").rank, 9);
  EXPECT_EQ(with("alone").local_rank, 1);
  EXPECT_EQ(with("alone").port, 24567);
}

TEST(Place, RefusesWhatMakesNoSense) {
  EXPECT_THAT(refused({{"RANK", "0"}}), AllOf(HasSubstr("RANK is set"), HasSubstr("WORLD_SIZE is not")));
  EXPECT_THAT(refused({{"WORLD_SIZE", "2"}}),
              AllOf(HasSubstr("WORLD_SIZE is set"), HasSubstr("RANK is not")));
  EXPECT_THAT(refused({{"RANK", "2"}, {"WORLD_SIZE", "2"}}),
              AllOf(HasSubstr("RANK: expected a whole number from 0 to 1"), HasSubstr("found \"2\"")));
  EXPECT_THAT(refused({{"RANK", "-1"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK"));
  EXPECT_THAT(refused({{"RANK", "one"}, {"WORLD_SIZE", "2"}}), HasSubstr("found \"one\""));
  EXPECT_THAT(refused({{"RANK", "0"}, {"WORLD_SIZE", "0"}}), HasSubstr("WORLD_SIZE"));
  EXPECT_THAT(refused({{"RANK", "0"}, {"WORLD_SIZE", "2 "}}), HasSubstr("WORLD_SIZE"));
  EXPECT_THAT(refused({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), HasSubstr("MASTER_ADDR"));
  EXPECT_THAT(
      refused({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "first"}, {"MASTER_PORT", "65536"}}),
      HasSubstr("MASTER_PORT"));
  EXPECT_THAT(refused({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "first"}, {"LOCAL_RANK", "x"}}),
              HasSubstr("LOCAL_RANK"));
}

}  // namespace
}  // namespace apo::distributed
