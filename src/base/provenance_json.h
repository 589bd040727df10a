// Where a result comes from, as the JSON files tell it.
#pragma once

#include <concepts>
#include <nlohmann/json.hpp>
#include <string>

#include "apo/base/provenance.h"
#include "apo/base/text.h"

namespace apo {

/// An object with the fields of Provenance.
template <class Json = nlohmann::json>
Json provenance_json(const Provenance& provenance = apo::provenance()) {
  Json object = Json::object();
  Provenance::for_each_field(provenance, [&](const char* name, const auto& member) {
    if constexpr (std::integral<std::remove_cvref_t<decltype(member)>>)
      object[name] = member;
    else
      object[name] = printable(member);
  });
  return object;
}

}  // namespace apo
