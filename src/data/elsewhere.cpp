#include "data/elsewhere.h"

#include <algorithm>
#include <list>
#include <map>

namespace apo::data::hdf5 {
namespace {

// Objects in the order of their last use; HDF5 keeps up to a megabyte for an open array.
template <class Object>
class Recent {
 public:
  template <class Open>
  const Object& get(int64_t file, const std::string& path, Open open) {
    const auto found = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const Entry& e) { return e.file == file && e.path == path; });
    if (found != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, found);
    } else {
      entries_.push_front({file, path, open()});
      if (entries_.size() > kMost) entries_.pop_back();
    }
    return entries_.front().object;
  }
  void forget(int64_t file) {
    std::erase_if(entries_, [file](const Entry& e) { return e.file == file; });
  }

 private:
  static constexpr size_t kMost = 32;
  struct Entry {
    int64_t file;
    std::string path;
    Object object;
  };
  std::list<Entry> entries_;
};

struct OpenFiles {
  std::map<int64_t, Group> roots;
  Recent<Group> groups;
  Recent<Array> arrays;
};

// Those of the reading process, which leaves without cleaning up.
OpenFiles& open_files() {
  static auto* files = new OpenFiles;
  return *files;
}

// "/data/demo_0" -> "data/demo_0"
std::string inside(const std::string& path) { return path.substr(std::min<size_t>(1, path.size())); }

}  // namespace

void forget_file(int64_t number) {
  open_files().arrays.forget(number);
  open_files().groups.forget(number);
  open_files().roots.erase(number);
}

// The file's number and its root.
std::pair<int64_t, const Group*> Elsewhere::find_root(Unpacker& in) {
  const auto number = in.take<int64_t>();
  const auto file = in.take<std::string>(), path = in.take<std::string>();
  const auto identity = in.take<std::vector<int64_t>>();
  auto& roots = open_files().roots;
  auto root = roots.find(number);
  if (root == roots.end()) {
    APO_CHECK(DataError, identity.empty() || file_identity(path) == identity, file,
              ": was replaced or changed while it was read");
    root = roots.emplace(number, Group::open_here(path, file)).first;
  }
  return {number, &root->second};
}

const Group& Elsewhere::find(Unpacker& in, const Group*) {
  const auto [file, root] = find_root(in);
  const auto path = in.take<std::string>();
  if (path.empty()) return *root;
  return open_files().groups.get(file, path, [&root = root, &path] { return root->group(inside(path)); });
}

const Array& Elsewhere::find(Unpacker& in, const Array*) {
  const auto [file, root] = find_root(in);
  const auto path = in.take<std::string>();
  return open_files().arrays.get(file, path, [&root = root, &path] { return root->array(inside(path)); });
}

}  // namespace apo::data::hdf5
