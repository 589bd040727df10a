// A policy of one's own for the shipped programs, with one option: a linear look at one small picture.
//   apo-train --plugin build/libglance.so --config x.yaml   (its policy: {type: glance, glance: {bins: 32}})
#include <apo/base/error.h>
#include <apo/base/plugin.h>
#include <apo/models/registry.h>
#include <apo/pictures/transforms.h>
#include <torch/types.h>
using namespace apo;

struct GlanceOptions {  // policy.glance
  int64_t bins = 64;
  void visit(config::Visitor& v) { v("bins", bins, "of each number of an action", config::between(2, 1024)); }
};

class Glance : public models::Policy {
 public:
  Glance(const models::PolicyFiles& files, at::Device device)  // notes: camera, bins
      : Policy({.codec = std::make_shared<tokenizers::BinCodec>(tokenizers::ActionBins(files.number("bins")),
                                                                files.statistics.action.size()),
                .normalizer = {files.statistics.action, files.statistics.normalization, /*epsilon=*/0},
                .vocabulary_size = files.number("bins"),
                .gripper = files.statistics.gripper,
                .device = device}),
        files_(files),
        weight_(at::zeros({action_size() * vocabulary_size(), 3 * 16 * 16}, device).set_requires_grad(true)) {
  }
  models::PolicyInput encode(std::span<const Observation> seen) const override {
    std::vector<at::Tensor> rows;
    for (const Observation& each : seen)
      rows.push_back(pictures::resize(models::picture_of(each, files_.note("camera")), 16, 16).flatten());
    return {.features = at::stack(rows).to(device(), at::kFloat) / 255 - 0.5};
  }
  models::Score score(const models::PolicyInput& input, const models::ActionTokens&,
                      const models::ActionTokens* mismatched) override {
    const at::Tensor logits =
        at::linear(input.features, weight_).view({-1, action_size(), vocabulary_size()});
    return {.logits = logits, .mismatched_logits = mismatched ? logits : at::Tensor()};
  }
  at::Tensor decode(const models::PolicyInput& input, const models::DecodeOptions& options) override {
    APO_CHECK(ConfigError, options.temperature == 0, "glance decides greedily: expected temperature 0");
    return score(input, {}, nullptr).logits.whole().argmax(-1);
  }
  models::NamedTensors named_parameters() const override { return {{"weight", weight_}}; }
  std::unique_ptr<models::Policy> clone() const override {
    auto copy = std::make_unique<Glance>(files_, device());
    copy->weight_.data().copy_(weight_.data());
    return copy;
  }
  void save(const std::filesystem::path& to) const override { files_.write(to, named_parameters()); }
  static models::PolicyFiles fresh(const models::PolicyOptions& options, const models::DataFacts& data) {
    const std::string bins = std::to_string(options.of<GlanceOptions>().bins);
    return {"glance", data.statistics, {{"camera", data.cameras.at(0)}, {"bins", bins}}};
  }

 private:
  models::PolicyFiles files_;
  at::Tensor weight_;
};

APO_PLUGIN() { models::register_policy<GlanceOptions, Glance>("glance"); }
