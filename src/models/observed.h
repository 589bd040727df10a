// What policies look up in an observation, and the picture features that those of a language model see.
#pragma once

#include <ATen/core/grad_mode.h>

#include <ranges>
#include <string>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/models/policy.h"

namespace apo::models {

/// The names in a map, for people; "none" of an empty one.
template <class Map>
std::string names_of(const Map& map) {
  return map.empty() ? "none" : join(std::views::keys(map));
}

/// DataError naming those that there are.
inline const std::vector<float>& state_of(const Observation& observation, const std::string& key) {
  const auto found = observation.state.find(key);
  APO_CHECK(DataError, found != observation.state.end(), "observation: the policy needs the state \"", key,
            "\"; there are: ", names_of(observation.state));
  return found->second;
}

/// Whether no layer for which `is_picture_part(name)` holds trains or carries an adapter: features of
/// pictures are then the same for every adapter.
template <class IsPicturePart>
bool has_fixed_features(const AdapterSlots& slots, const IsPicturePart& is_picture_part) {
  for (const auto& [name, linear] : slots.layers())
    if (is_picture_part(name) && (!linear->adapters.empty() || linear->weight.requires_grad())) return false;
  return true;
}

/// Puts pictures [B, N, 3, Y, X] into the input: their features, without gradient, where these are fixed.
template <class Network>
void put_pictures(PolicyInput& input, const at::Tensor& images, bool fixed, const Network& network) {
  if (!fixed) {
    input.images = images;
    return;
  }
  const at::NoGradGuard no_grad;
  input.features = network.picture_features(images);
}

/// [B, P, W], with gradient where they are made here.
template <class Network>
at::Tensor picture_features(const PolicyInput& input, const Network& network) {
  APO_CHECK(DataError, input.prompt.defined() && (input.features.defined() || input.images.defined()),
            "policy input: expected a prompt and images or features");
  return input.features.defined() ? input.features : network.picture_features(input.images);
}

}  // namespace apo::models
