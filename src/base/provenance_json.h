// Where a result comes from, as the JSON files tell it.
#pragma once

#include <concepts>
#include <nlohmann/json.hpp>
#include <string>

#include "apo/base/provenance.h"
#include "apo/base/text.h"
#include "base/json.h"

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

/// What such an object says; members that it lacks stay empty. DataError for one of another kind.
inline Provenance read_provenance(const JsonField& object) {
  Provenance origin;
  Provenance::for_each_field(origin, [&](const char* name, auto& member) {
    if constexpr (std::integral<std::remove_cvref_t<decltype(member)>>)
      member = object[name].count().value_or(0);
    else
      member = object[name].template get_or<std::string>();
  });
  return origin;
}

}  // namespace apo
