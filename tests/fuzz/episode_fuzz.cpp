// A trajectory file of any structure: read to the last picture, or refused with a message.
//
// The input's bytes say how a file departs from one of the layouts: objects that are missing, doubled, of
// another kind, type, rank, length or storage, links that lead nowhere or in a circle, any values. HDF5
// itself writes it, so that what is tested is our reading; HDF5's own parsing of damaged bytes is HDF5's.
#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "apo/base/error.h"
#include "apo/data/trajectory.h"
#include "data/reading_process.h"
#include "input_file.h"

namespace {

// Zeros once the input is used up: no further departures.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t next() { return place_ < size_ ? data_[place_++] : 0; }
  uint64_t below(uint64_t bound) { return next() % bound; }
  void fill(void* target, size_t bytes) {
    const size_t given = std::min(bytes, size_ - place_);
    std::memset(target, 0, bytes);
    std::memcpy(target, data_ + place_, given);
    place_ += given;
  }

 private:
  const uint8_t* data_;
  size_t size_, place_ = 0;
};

struct Shape {
  hid_t type;  // native
  std::vector<hsize_t> sizes;
};

// Writes one file; failures of HDF5 (a name taken twice, say) just leave something out.
class Writer {
 public:
  Writer(const std::string& path, Bytes& bytes)
      : bytes_(bytes), file_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)) {}
  ~Writer() { H5Fclose(file_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // A group, unless the bytes want something else there.
  void group(const std::string& path) {
    if (departs(path, {H5T_NATIVE_FLOAT, {2}})) return;
    close_group(H5Gcreate2(file_, path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  }
  void dataset(const std::string& path, Shape shape) {
    if (!departs(path, shape)) write(path, shape, 0);
  }
  void text(const std::string& path, const std::string& value) {
    if (departs(path, {H5T_NATIVE_UINT8, {3}})) return;
    write_text(path, value, bytes_.below(2) != 0);
  }
  void attribute(const std::string& path, const std::string& name) {
    const uint64_t kind = bytes_.below(9);
    if (kind == 7) return;
    if (kind == 8) return nested_attribute(path, name);
    const hid_t object = H5Oopen(file_, path.c_str(), H5P_DEFAULT);
    if (object < 0) return;
    const std::array<hid_t, 4> numbers{H5T_NATIVE_INT64, H5T_NATIVE_UINT8, H5T_NATIVE_DOUBLE,
                                       H5T_NATIVE_INT8};
    const hid_t type = kind < 3 ? string_type(kind == 0) : H5Tcopy(numbers[kind - 3]);
    const hsize_t size = bytes_.below(3);
    const hid_t space = size == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &size, nullptr);
    const hid_t attribute = H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT);
    std::array<char, 64> value{};
    bytes_.fill(value.data(), value.size());
    std::array<const char*, 2> texts{value.data(), value.data()};
    value.back() = '\0';
    if (attribute >= 0) {
      H5Awrite(attribute, type, kind == 0 ? static_cast<const void*>(texts.data()) : value.data());
      H5Aclose(attribute);
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Oclose(object);
  }

 private:
  // JSON that is nested more deeply than an input is long.
  void nested_attribute(const std::string& path, const std::string& name) {
    const size_t levels = size_t{1} << bytes_.below(20);
    const std::string text =
        "{\"env_kwargs\": {\"config\": " + std::string(levels, '[') + std::string(levels, ']') + "}}";
    const hid_t object = H5Oopen(file_, path.c_str(), H5P_DEFAULT);
    if (object < 0) return;
    const hid_t type = string_type(true), space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT);
    const char* value = text.c_str();
    if (attribute >= 0) {
      H5Awrite(attribute, type, static_cast<const void*>(&value));
      H5Aclose(attribute);
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Oclose(object);
  }
  static void close_group(hid_t group) {
    if (group >= 0) H5Gclose(group);
  }
  static hid_t string_type(bool variable) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, variable ? H5T_VARIABLE : 16);
    return type;
  }

  // True if the object is not to be written as it should be.
  bool departs(const std::string& path, Shape shape) {
    const std::array<hid_t, 8> types{H5T_NATIVE_FLOAT, H5T_NATIVE_DOUBLE, H5T_NATIVE_INT8,   H5T_NATIVE_UINT8,
                                     H5T_NATIVE_INT64, H5T_NATIVE_UINT64, H5T_NATIVE_USHORT, H5T_NATIVE_INT};
    switch (bytes_.below(16)) {
      case 1:
        return true;  // missing
      case 2:
        close_group(H5Gcreate2(file_, path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        return true;
      case 3:
        H5Lcreate_soft("/nowhere", file_, path.c_str(), H5P_DEFAULT, H5P_DEFAULT);
        return true;
      case 4:
        H5Lcreate_soft(path.c_str(), file_, path.c_str(), H5P_DEFAULT, H5P_DEFAULT);
        return true;
      case 5:
        H5Lcreate_soft("/data", file_, path.c_str(), H5P_DEFAULT, H5P_DEFAULT);
        return true;
      case 6:
        H5Lcreate_external("/dev/zero", "/data", file_, path.c_str(), H5P_DEFAULT, H5P_DEFAULT);
        return true;
      case 7:
        H5Lcreate_hard(file_, "/", file_, path.c_str(), H5P_DEFAULT, H5P_DEFAULT);
        return true;
      case 8:
        shape.type = types[bytes_.below(types.size())];
        break;
      case 9:
        shape.sizes.clear();
        break;
      case 10:
        shape.sizes.push_back(bytes_.below(4));
        break;
      case 11:
        if (!shape.sizes.empty()) shape.sizes.pop_back();
        break;
      case 12:
        for (hsize_t& size : shape.sizes) size = bytes_.below(7);
        break;
      case 13:
        if (!shape.sizes.empty()) shape.sizes.front() += bytes_.below(3);
        break;
      case 14:
        write_text(path, "lift", bytes_.below(2) != 0);
        return true;
      case 15:
        write(path, shape, 1 + bytes_.below(3));
        return true;
      default:
        return false;
    }
    write(path, shape, 0);
    return true;
  }

  // `storage`: 0 contiguous, 1 chunked, 2 compressed, 3 may grow
  void write(const std::string& path, const Shape& shape, uint64_t storage) {
    const int rank = static_cast<int>(shape.sizes.size());
    std::vector<hsize_t> most = shape.sizes;
    const bool chunked =
        storage > 0 && rank > 0 && std::ranges::all_of(shape.sizes, [](hsize_t s) { return s > 0; });
    if (chunked && storage == 3) most.front() = H5S_UNLIMITED;
    const hid_t space =
        rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, shape.sizes.data(), most.data());
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    if (chunked) {
      std::vector<hsize_t> chunk(shape.sizes);
      for (hsize_t& size : chunk) size = 1 + bytes_.below(size);
      H5Pset_chunk(creation, rank, chunk.data());
      if (storage == 2) H5Pset_deflate(creation, 1);
    }
    const hid_t dataset =
        H5Dcreate2(file_, path.c_str(), shape.type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (dataset >= 0) {
      size_t count = 1;
      for (const hsize_t size : shape.sizes) count *= size;
      std::vector<char> values(count * H5Tget_size(shape.type) + 1);
      bytes_.fill(values.data(), bytes_.below(4) == 0 ? 0 : values.size());
      H5Dwrite(dataset, shape.type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
      H5Dclose(dataset);
    }
    H5Pclose(creation);
    H5Sclose(space);
  }

  void write_text(const std::string& path, std::string value, bool any_bytes) {
    if (any_bytes) bytes_.fill(value.data(), value.size());
    const hid_t type = string_type(true), space = H5Screate(H5S_SCALAR);
    const hid_t dataset = H5Dcreate2(file_, path.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const char* text = value.c_str();
    if (dataset >= 0) {
      H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, &text);
      H5Dclose(dataset);
    }
    H5Sclose(space);
    H5Tclose(type);
  }

  Bytes& bytes_;
  hid_t file_;
};

// robomimic's, ours and Sirius': data/demo_N/{actions, obs, ...}
void write_episodes(Writer& writer, Bytes& bytes, bool ours, bool sirius) {
  writer.group("data");
  for (const char* name : {"env_args", "total", "problem_info", "apo_schema_version"})
    writer.attribute("data", name);
  for (uint64_t e = 0, count = 1 + bytes.below(3); e < count; ++e) {
    const std::string demo = "data/demo_" + std::to_string(e);
    writer.group(demo);
    for (const char* name : {"num_samples", "task_description", "success", "outcome"})
      writer.attribute(demo, name);
    const hsize_t steps = 1 + bytes.below(4), rows = steps + bytes.below(2);
    writer.dataset(demo + "/actions", {H5T_NATIVE_FLOAT, {steps, 7}});
    writer.dataset(demo + "/rewards", {H5T_NATIVE_FLOAT, {steps}});
    writer.dataset(demo + "/dones", {H5T_NATIVE_INT8, {steps}});
    writer.group(demo + "/obs");
    writer.dataset(demo + "/obs/front_image", {H5T_NATIVE_UINT8, {rows, 4, 4, 3}});
    writer.dataset(demo + "/obs/eef_pos", {H5T_NATIVE_DOUBLE, {rows, 3}});
    if (ours) {
      writer.dataset(demo + "/action_source", {H5T_NATIVE_INT8, {steps}});
      writer.dataset(demo + "/desirable", {H5T_NATIVE_INT8, {steps}});
      writer.dataset(demo + "/policy_action", {H5T_NATIVE_FLOAT, {steps, 7}});
    }
    if (sirius) writer.dataset(demo + "/action_modes", {H5T_NATIVE_INT8, {steps}});
  }
}

// The released layouts: GROUP/timestep_T/{action, third_obs, is_human}
void write_timesteps(Writer& writer, Bytes& bytes, const std::string& group, bool interaction) {
  writer.group(group);
  if (interaction) writer.text(group + "/task_description", "lift the block");
  for (uint64_t t = 0, count = 1 + bytes.below(4); t < count; ++t) {
    const std::string step = group + "/timestep_" + std::to_string(t);
    writer.group(step);
    writer.dataset(step + "/action", {H5T_NATIVE_DOUBLE, {7}});
    writer.dataset(step + "/third_obs", {H5T_NATIVE_UINT8, {4, 4, 3}});
    if (interaction) writer.dataset(step + "/is_human", {H5T_NATIVE_INT64, {}});
  }
}

void write_file(const std::string& path, Bytes& bytes) {
  H5E_auto2_t report = nullptr;
  void* reported = nullptr;
  H5Eget_auto2(H5E_DEFAULT, &report, &reported);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  {
    Writer writer(path, bytes);
    switch (bytes.below(6)) {
      case 0:
        write_episodes(writer, bytes, true, false);
        break;
      case 1:
        write_episodes(writer, bytes, false, false);
        break;
      case 2:
        write_episodes(writer, bytes, false, true);
        break;
      case 3:
        write_timesteps(writer, bytes, "data", true);
        break;
      case 4:
        write_timesteps(writer, bytes, "demo_0", false);
        break;
      default:
        write_episodes(writer, bytes, true, true);
        write_timesteps(writer, bytes, "data", true);
    }
  }
  H5Eset_auto2(H5E_DEFAULT, report, reported);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const apo::fuzz::InputFile input(".hdf5");
  // half a megabyte for each file opened: kept by HDF5 for the next one, it need not be mapped anew
  static const herr_t kept = H5set_free_list_limits(-1, -1, -1, -1, -1, -1);
  if (kept < 0) __builtin_trap();
  static const bool here = (apo::data::hdf5::read_here(), true);
  if (!here) __builtin_trap();
  const std::string& path = input.write(nullptr, 0);
  Bytes bytes(data, size);
  write_file(path, bytes);
  try {
    const auto file = apo::data::TrajectoryFile::open(path, apo::data::TrajectoryFormat::automatic, "lift");
    file->attributes();
    for (int64_t e = 0; e < file->num_episodes(); ++e) {
      const auto record = file->episode(e);
      if (record.sources.size() != record.actions.size() || record.recorded.size() != record.actions.size())
        __builtin_trap();
      for (int64_t t = 0; t < record.num_steps(); ++t) file->observation(e, t);
    }
  } catch (const apo::Error& error) {
    if (*error.what() == '\0') __builtin_trap();
  }
  // whatever the file was, nothing of it stays open
  if (H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL) != 0) __builtin_trap();
  return 0;
}
