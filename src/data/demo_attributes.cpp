// What the attributes of an episode say: what was asked for, how it ended, how long it is.
#include <algorithm>
#include <array>
#include <charconv>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "base/json.h"
#include "data/demo_parts.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using hdf5::Array;
using hdf5::Group;
using hdf5::Kind;

constexpr std::array kInstructionNames{"task_description", "language_instruction", "language", "lang"};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return text;
}

// An array of one text, or of the same one for each step.
std::optional<std::string> text_of(const Group& group, const std::string& name) {
  if (!group.has(name) || group.is_group(name)) return std::nullopt;
  const Array array = group.array(name);
  if (array.kind() != Kind::text || array.shape().size() > 2) return std::nullopt;
  const std::vector<std::string> texts = array.texts();
  if (texts.empty() ||
      std::any_of(texts.begin(), texts.end(), [&](const std::string& t) { return t != texts[0]; }))
    return std::nullopt;
  return texts[0];
}

std::string instruction_of(const Group& group, ReadNames* read) {
  for (const char* name : kInstructionNames) {
    if (name != kInstructionNames[0] && group.attribute_kind(name) != Kind::text)
      continue;  // the first one is ours
    if (const auto text = group.text_attribute(name); text && !text->empty()) return *text;
  }
  for (const char* name : kInstructionNames) {
    const auto text = text_of(group, name);
    if (!text || text->empty()) continue;
    if (read) read->insert(name);
    return *text;
  }
  return "";
}

// "KITCHEN_SCENE10_close_the_top_drawer_demo" -> "close the top drawer": how LIBERO names its files.
std::string instruction_in_name(const fs::path& path) {
  constexpr std::string_view kEnd = "_demo";
  std::string text = path.stem().string();
  if (text.size() <= kEnd.size() || !text.ends_with(kEnd)) return "";
  text.erase(text.size() - kEnd.size());
  if (const size_t scene = text.find("SCENE"); scene != std::string::npos) {
    const size_t end = text.find_first_not_of("0123456789", scene + 5);
    if (end != std::string::npos && text[end] == '_') text = text.substr(end + 1);
  }
  std::replace(text.begin(), text.end(), '_', ' ');
  return is_utf8(text) ? text : "";
}

// A number that an attribute holds, as such or as a text.
std::optional<double> number_in(const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

}  // namespace

nlohmann::json json_attribute(const Group& group, const char* name) {
  if (group.attribute_kind(name) != Kind::text) return {};
  const auto text = group.text_attribute(name);
  return parse_if_json(text.value_or(""), concat(group.where(), " attribute ", name)).value_or(nullptr);
}

std::optional<std::string> json_entry(const nlohmann::json& json, const char* key) {
  if (!json.is_object() || !json.contains(key)) return std::nullopt;
  std::string value;
  if (json[key].is_array()) {  // LIBERO: a list of words or of letters
    bool letters = true;
    for (const auto& part : json[key])
      letters = letters && part.is_string() && part.get<std::string>().size() == 1;
    for (const auto& part : json[key]) {
      if (!part.is_string()) return std::nullopt;
      value += letters || value.empty() ? "" : " ";
      value += part.get<std::string>();
    }
  } else if (json[key].is_string()) {
    value = json[key].get<std::string>();
  }
  if (value.size() > 1 && value.front() == '"' && value.back() == '"')
    value = value.substr(1, value.size() - 2);
  return value;
}

std::string find_instruction(const Group& demo, const Group& data, const fs::path& path,
                             TrajectoryFormat format, ReadNames& read) {
  for (std::string found :
       {instruction_of(demo, &read), instruction_of(data, nullptr),
        json_entry(json_attribute(demo, "ep_meta"), "lang").value_or(""),
        json_entry(json_attribute(data, "problem_info"), "language_instruction").value_or("")})
    if (!found.empty()) return found;
  return format == TrajectoryFormat::libero ? instruction_in_name(path) : "";
}

std::optional<bool> read_success(const Group& demo) {
  const auto kind = demo.attribute_kind("success");
  if (!kind) return std::nullopt;
  std::string found = kind == Kind::integer || kind == Kind::floating ? "" : "another type";
  if (found.empty()) {
    const double number = *demo.number_attribute("success");
    if (number == 0 || number == 1) return number == 1;
    found = concat(number);
  } else if (kind == Kind::text) {
    found = demo.text_attribute("success").value_or("");
    const std::string word = lower(found);
    if (word == "true" || word == "yes" || number_in(word) == 1.0) return true;
    if (word == "false" || word == "no" || number_in(word) == 0.0) return false;
  }
  throw DataError(concat(demo.where(), ": attribute success: expected 0 or 1, found ", found));
}

void expect_num_samples(const Group& demo, int64_t steps) {
  const auto kind = demo.attribute_kind("num_samples");
  if (!kind) return;
  std::optional<double> number;
  if (kind == Kind::text) number = number_in(demo.text_attribute("num_samples").value_or(""));
  if (kind == Kind::integer || kind == Kind::floating) number = demo.number_attribute("num_samples");
  APO_CHECK(DataError, number.has_value(), demo.where(),
            " attribute num_samples: expected a number, found another type");
  APO_CHECK(DataError, *number == static_cast<double>(steps), demo.where("actions"), ": expected ", *number,
            " rows (attribute num_samples), found ", steps);
}

bool has_no_step(const Group& data, const std::string& name) {
  try {
    const Group demo = data.group(name);
    if (demo.names().empty()) return true;
    const std::vector<int64_t> shape = demo.array("actions").shape();
    return !shape.empty() && shape[0] == 0;
  } catch (const DataError&) {
    return false;
  }
}

void list_unread(const Group& group, const std::string& within, const ReadNames& read,
                 EpisodeRecord& record) {
  for (const std::string& name : group.names()) {
    const std::string path = within + name;
    if (read.contains(path)) continue;
    try {
      if (!group.is_group(name)) {
        record.unused[path] = group.array(name).describe();
      } else if (within.empty() && std::any_of(read.begin(), read.end(),
                                               [&](const auto& r) { return r.starts_with(path + "/"); })) {
        list_unread(group.group(name), path + "/", read, record);
      } else {
        record.unused[path] = "a group";
      }
    } catch (const DataError& error) {
      record.unused[path] = error.what();
    }
  }
}

ImageOrientation orientation_of(const Group& data, const Reading& reading) {
  if (reading.orientation != ImageOrientation::automatic) return reading.orientation;
  if (reading.format != TrajectoryFormat::libero) return ImageOrientation::as_stored;
  const std::string convention = data.text_attribute("macros_image_convention").value_or("opengl");
  APO_CHECK(DataError, convention == "opengl" || convention == "opencv", data.where(),
            " attribute macros_image_convention: expected opengl or opencv, found ", convention);
  return convention == "opengl" ? ImageOrientation::flipped : ImageOrientation::as_stored;
}

}  // namespace apo::data
