#include "models/adapters/base_check.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/log.h"

namespace apo::models {
namespace {

constexpr int64_t kBlock = 1 << 22;  // numbers compared at once
constexpr size_t kMostLayers = 8;
// A second adapter along the first, which is merged, has its share as well: 1.25 where it is 0.8 times as
// large. What is refused must be 1 as exactly as can be measured.
constexpr double kLargestError = 0.05, kNearOne = 0.03, kErrors = 3, kErrorsOfALayer = 4;
constexpr double kLargestErrorToTell = 0.1, kShareToTell = 0.5;

// What a comparison of two tensors that may have been rounded to other types gathers block by block.
class Comparison {
 public:
  void add(const at::Tensor& ours, const at::Tensor& theirs) {
    const at::Tensor gap = (ours - theirs).abs();
    difference_ += gap.square().sum(at::kDouble).item<double>();
    size_ += ours.square().sum(at::kDouble).item<double>();
    exact_ = exact_ && ours.equal(theirs);
    if (exact_) return;
    for (size_t i = 0; i < kNarrow.size(); ++i) {
      Rounded& state = rounded_[i];
      const at::Tensor a = ours.to(kNarrow[i]).to(at::kFloat), b = theirs.to(kNarrow[i]).to(at::kFloat);
      state.equal = state.equal && a.equal(b);
      state.ours = state.ours && a.equal(ours);
      state.theirs = state.theirs && b.equal(theirs);
    }
    // two roundings of one number, neither finer than the other

    far_ = far_ || gap.gt(ours.abs() / 128 + std::ldexp(1.0, -24)).any().item<bool>();
  }
  bool equal(at::ScalarType ours, at::ScalarType theirs) const {
    if (exact_) return true;
    for (const Rounded& state : rounded_)
      if (state.equal && (state.ours || state.theirs)) return true;
    const auto is = [&](at::ScalarType a, at::ScalarType b) { return ours == a && theirs == b; };
    return (is(at::kHalf, at::kBFloat16) || is(at::kBFloat16, at::kHalf)) && !far_;
  }
  double relative_difference() const { return std::sqrt(difference_ / size_); }

 private:
  static constexpr std::array<at::ScalarType, 2> kNarrow{at::kBFloat16, at::kHalf};
  struct Rounded {
    bool equal = true, ours = true,
         theirs = true;  // equal once rounded; ours, theirs: rounding changes nothing
  };
  std::array<Rounded, 2> rounded_;
  bool exact_ = true, far_ = false;
  double difference_ = 0, size_ = 0;
};

// Σ (weight − copy) D / Σ D² of one layer: 1 where D is what lies between them.
double share_between(const at::Tensor& weight, const at::Tensor& copy, const PeftAdapter::Part& part) {
  const at::Tensor change =
      at::matmul(part.b.to(at::kFloat).flatten(1), part.a.to(at::kFloat).flatten(1)) * part.scale;
  const at::Tensor between = (weight.to(at::kCPU, at::kFloat) - copy.to(at::kFloat)).reshape(change.sizes());
  return (between * change).sum(at::kDouble).item<double>() / change.square().sum(at::kDouble).item<double>();
}

const char* const kAlreadyMerged =
    "; applied again it would count twice: give the base that it was trained on, or leave the adapter away";

struct OfLayer {
  double share, weight;  // weight: 1 / variance
};

OfLayer share_of(const PeftAdapter::Part& part, const at::Tensor& weight) {
  const auto [qb, rb] = at::linalg_qr(part.b.to(at::kCPU, at::kDouble).flatten(1));
  const auto [qa, ra] = at::linalg_qr(part.a.to(at::kCPU, at::kDouble).flatten(1).t());
  const auto [u, s, vt] = at::linalg_svd(at::matmul(rb, ra.t()) * part.scale, /*full_matrices=*/false);
  const at::Tensor left = at::matmul(qb, u).to(weight.device(), at::kFloat),
                   right = at::matmul(qa, vt.t()).to(weight.device(), at::kFloat);
  const at::Tensor matrix = weight.detach().flatten(1);
  at::Tensor seen = at::zeros({left.size(1), right.size(1)}, at::kDouble);
  double square = 0;
  const int64_t rows = std::max<int64_t>(1, kBlock / std::max<int64_t>(matrix.size(1), 1));
  for (int64_t begin = 0; begin < matrix.size(0); begin += rows) {
    const int64_t count = std::min(rows, matrix.size(0) - begin);
    const at::Tensor block = matrix.narrow(0, begin, count).to(at::kFloat);
    square += block.square().sum().to(at::kCPU, at::kDouble).item<double>();
    seen += at::matmul(left.narrow(0, begin, count).t(), at::matmul(block, right)).to(at::kCPU, at::kDouble);
  }
  const at::Tensor own = seen.diagonal();
  const double size = s.square().sum().item<double>();
  if (!(size > 0)) return {0, 0};
  const int64_t n = seen.size(0);
  double noise = square / static_cast<double>(matrix.numel());
  if (n > 1) {
    const double between =
        (seen.square().sum() - own.square().sum()).item<double>() / static_cast<double>(n * (n - 1));
    noise = std::max(noise, between);
  }
  return {(s * own).sum().item<double>() / size, size / std::max(noise, 1e-300)};
}

}  // namespace

std::map<std::string, std::string> with_merged(const std::map<std::string, std::string>& metadata,
                                               const std::string& adapter_hash) {
  std::map<std::string, std::string> result;
  const auto found = metadata.find(kMergedAdapters);
  if (found != metadata.end()) result[kMergedAdapters] = found->second;
  if (adapter_hash.empty()) return result;
  std::string& list = result[kMergedAdapters];
  append_item(list, ",", adapter_hash);
  return result;
}

void refuse_marked(const PeftAdapter& adapter, const std::map<std::string, std::string>& metadata,
                   const std::string& where) {
  const auto found = metadata.find(kMergedAdapters);
  if (found == metadata.end()) return;
  APO_CHECK(DataError, found->second.find(adapter_hash(adapter)) == std::string::npos, adapter.file.string(),
            ": this adapter is merged into ", where, " already (as its ", kMergedAdapters, " says)",
            kAlreadyMerged);
}

void check_base(const PeftAdapter& adapter, const std::string& name, const at::Tensor& weight) {
  const auto found = adapter.base_copies.find(name);
  if (found == adapter.base_copies.end()) return;
  const at::Tensor& copy = found->second;
  const std::string where = concat(adapter.file.string(), ": the copy of ", name);
  APO_CHECK(DataError, copy.sizes() == weight.sizes() && copy.is_floating_point(), where, ": expected ",
            weight.sizes(), " as in the base, found ", copy.sizes(), " ", copy.scalar_type());
  const at::NoGradGuard no_grad;
  Comparison comparison;
  const at::Tensor all_ours = weight.detach().flatten(), all_theirs = copy.flatten();
  for (int64_t begin = 0; begin < weight.numel(); begin += kBlock) {
    const int64_t count = std::min(kBlock, weight.numel() - begin);
    comparison.add(all_ours.narrow(0, begin, count).to(at::kCPU, at::kFloat),
                   all_theirs.narrow(0, begin, count).to(at::kFloat));
  }
  if (comparison.equal(weight.scalar_type(), copy.scalar_type())) return;
  const size_t dot = name.rfind('.');
  const auto part = adapter.layers.find(name.substr(0, dot));
  if (name.ends_with(".weight") && part != adapter.layers.end() &&
      part->second.weight_shape() == weight.sizes().vec()) {
    const double share = share_between(weight, copy, part->second);
    APO_CHECK(DataError, !(share > 0.5 && share < 1.5), where,
              " and the checkpoint's differ by the adapter's own change (", share,
              " times): the adapter is merged into the checkpoint already", kAlreadyMerged);
  }
  throw DataError(concat(
      where, " differs from the base's by ", comparison.relative_difference(),
      " of its size: it was trained beside the adapter, which is not read (merge it in Python: "
      "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(DIR), and give DIR as "
      "policy.checkpoint), or the adapter belongs to another base"));
}

MergedShare merged_share(const PeftAdapter& adapter,
                         const std::function<at::Tensor(const std::string&)>& weight) {
  const at::NoGradGuard no_grad;
  std::vector<const std::string*> names;
  for (const auto& [layer, part] : adapter.layers) names.push_back(&layer);
  const size_t count = std::min(kMostLayers, names.size());
  double weighted = 0, weights = 0;
  MergedShare result{
      .share = 0, .standard_error = std::numeric_limits<double>::infinity(), .everywhere = true};
  for (size_t i = 0; i < count; ++i) {
    const std::string& layer = *names[i * names.size() / count];
    const OfLayer found = share_of(adapter.layers.at(layer), weight(layer));
    weighted += found.weight * found.share;
    weights += found.weight;
    const double error = 1 / std::sqrt(found.weight);
    result.everywhere =
        result.everywhere && std::abs(found.share - 1) <= std::max(kNearOne, kErrorsOfALayer * error);
  }
  if (!(weights > 0)) return result;
  result.share = weighted / weights;
  result.standard_error = 1 / std::sqrt(weights);
  return result;
}

void refuse_merged(const PeftAdapter& adapter, const std::function<at::Tensor(const std::string&)>& weight,
                   const std::string& where) {
  const MergedShare found = merged_share(adapter, weight);
  const bool merged = found.everywhere && found.standard_error < kLargestError &&
                      std::abs(found.share - 1) <= std::max(kNearOne, kErrors * found.standard_error);
  APO_CHECK(DataError, !merged, adapter.file.string(), ": this adapter is merged into ", where,
            " already: the weights hold its change ", found.share, " times (± ", found.standard_error, ")",
            kAlreadyMerged);
  if (found.standard_error < kLargestErrorToTell && found.share > kShareToTell)
    log_warn(adapter.file.string(), ": the weights of ", where, " hold the adapter's change ", found.share,
             " times (± ", found.standard_error,
             "), as where an earlier adapter of the same direction is merged into them; if it is this "
             "one, leave it away: it would count twice");
}

}  // namespace apo::models
