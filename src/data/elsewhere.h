// Calls of Group's and Array's reading functions in the reading process (guard.h).
#pragma once

#include <string>
#include <tuple>
#include <type_traits>

#include "data/hdf5.h"
#include "data/reading_process.h"

namespace apo::data::hdf5 {

struct Elsewhere {
  /// In the reading process: the object that a call is for, opened if it is not open.
  static const Group& find(Unpacker& in, const Group*);
  static const Array& find(Unpacker& in, const Array*);
  static std::pair<int64_t, const Group*> find_root(Unpacker& in);

  template <class Object>
  static Packer begin(const Object& object) {
    Packer arguments;
    arguments.put(object.path_);
    return arguments;
  }

  template <auto function>
  struct Call;
  template <class Object, class Result, class... Parameters, Result (Object::*function)(Parameters...) const>
  struct Call<function> {
    using Returned = std::decay_t<Result>;
    static void answer(Unpacker& in, Packer& out) {
      const Object& object = find(in, static_cast<const Object*>(nullptr));
      std::tuple<std::decay_t<Parameters>...> arguments{in.take<std::decay_t<Parameters>>()...};
      const auto call = [&object](const auto&... a) -> Returned { return (object.*function)(a...); };
      if constexpr (std::is_void_v<Returned>) {
        std::apply(call, arguments);
      } else {
        out.put(std::apply(call, arguments));
      }
    }
    template <class... Arguments>
    static Returned ask(const Object& object, const Arguments&... arguments) {
      Packer packed = begin(object);
      (packed.put(static_cast<const std::decay_t<Parameters>&>(arguments)), ...);
      const std::string result = object.guard_->run(&answer, packed, object.where());
      if constexpr (!std::is_void_v<Returned>) return Unpacker(result).template take<Returned>();
    }
  };
};

template <auto function, class... Arguments>
auto Group::elsewhere(const Arguments&... arguments) const {
  return Elsewhere::Call<function>::ask(*this, arguments...);
}

template <auto function, class... Arguments>
auto Array::elsewhere(const Arguments&... arguments) const {
  return Elsewhere::Call<function>::ask(*this, arguments...);
}

}  // namespace apo::data::hdf5
