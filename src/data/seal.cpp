#include "data/seal.h"

#include <torch/types.h>

#include <algorithm>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/hash.h"
#include "data/elsewhere.h"

namespace apo::data {

constexpr std::string_view kPictureHash = "_hash";

std::string hdf5::Group::content_hash(const std::vector<std::string>& names) const {
  if (guard_) return elsewhere<&Group::content_hash>(names);
  Session session;
  const auto all = attributes();
  ContentHash hash;
  for (const std::string& name : names) {
    hash.add_text(name);
    if (name.starts_with('@')) {
      const std::string attribute = name.substr(1);
      const auto found =
          std::find_if(all.begin(), all.end(), [&](const auto& a) { return a.first == attribute; });
      APO_CHECK(DataError, found != all.end(), where(), ": expected attribute ", attribute, ", found none");
      hash.add_text(found->second);
      continue;
    }
    const Array array = this->array(name);
    // a picture of another name would not be compared
    const std::string picture =
        "obs/" + name.substr(0, name.size() - std::min(name.size(), kPictureHash.size()));
    APO_CHECK(DataError, !name.ends_with(kPictureHash) || name.find('/') != name.npos || has(picture),
              where(picture), ": expected a dataset, found nothing");
    hash.add_text(array.describe());
    if (array.kind() == Kind::text) {
      for (const std::string& text : array.texts()) hash.add_text(text);
    } else if (array.kind() == Kind::floating) {
      const std::vector<float> values = array.floats();
      hash.add(values.data(), values.size() * sizeof(float));
    } else {
      APO_CHECK(DataError, array.kind() == Kind::integer, array.where(),
                ": expected numbers or texts, found ", array.describe());
      for (const int64_t value : array.integers()) hash.add_number(value);
    }
  }
  return hash.text();
}

namespace {

using hdf5::Group;

constexpr const char* kHash = "content_hash";
constexpr const char* kNames = "content_hash_of";

constexpr std::string_view kBetween = "//";  // no path has it

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const size_t end = text.find(kBetween);
    names.emplace_back(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + kBetween.size());
  }
  return names;
}

void seal(Group& group, const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all.append(all.empty() ? "" : kBetween).append(name);
  group.set_attribute(kNames, all);
  group.set_attribute(kHash, group.content_hash(names));
}

}  // namespace

std::string picture_hash_name(const std::string& array) { return array + std::string(kPictureHash); }

bool is_seal(const std::string& attribute) { return attribute == kHash || attribute == kNames; }

bool is_sealed(const Group& demo) { return demo.text_attribute(kHash).has_value(); }

bool is_picture_hash(const Group& demo, const std::string& array) {
  return array.ends_with(kPictureHash) && demo.has("obs") &&
         demo.group("obs").has(array.substr(0, array.size() - kPictureHash.size()));
}

int64_t picture_hash(const at::Tensor& image) {
  const at::Tensor plain = image.contiguous();
  ContentHash hash;
  hash.add(plain.const_data_ptr(), plain.nbytes());
  return static_cast<int64_t>(std::stoull(hash.text().substr(16), nullptr, 16));
}

void seal_episode(Group& demo) {
  std::vector<std::string> names;
  for (const std::string& name : demo.attribute_names())
    if (name != kHash && name != kNames) names.push_back("@" + name);
  for (const std::string& name : demo.names())
    if (name != "obs") names.push_back(name);
  const Group observations = demo.group("obs");
  for (const std::string& name : observations.names())
    if (!demo.has(picture_hash_name(name))) names.push_back("obs/" + name);
  seal(demo, names);
}

void seal_array(Group& demo, const std::string& array) {
  const auto of = demo.text_attribute(kNames);
  if (!of) return;
  std::vector<std::string> names = split(*of);
  if (std::find(names.begin(), names.end(), array) == names.end()) names.push_back(array);
  seal(demo, names);
}

void seal_info(Group& data) { seal(data, {"@env_args", "@policy", "@policy_hash"}); }

void check_seal(const Group& group, bool required) {
  const auto expected = group.text_attribute(kHash), of = group.text_attribute(kNames);
  APO_CHECK(DataError, expected.has_value() == of.has_value() && (expected || !required), group.where(),
            ": expected attribute ", expected ? kNames : kHash,
            ", found none: damaged, or not written by these programs (the file says apo_schema_version ",
            kSealedVersion, ", where every episode has one)");
  if (!expected) return;
  const std::string found = group.content_hash(split(*of));
  APO_CHECK(DataError, found == *expected, group.where(),
            ": damaged or changed since it was recorded: expected content_hash ", *expected, ", found ",
            found);
}

void check_picture(const at::Tensor& image, int64_t hash, const std::string& array, int64_t row) {
  APO_CHECK(DataError, picture_hash(image) == hash, array, " row ", row,
            ": damaged or changed: not the picture that was recorded");
}

}  // namespace apo::data
