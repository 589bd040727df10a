// A trajectory file of any bytes: read to the last picture, or refused with a message.
#include <hdf5.h>

#include "apo/base/error.h"
#include "apo/data/trajectory.h"
#include "input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const apo::fuzz::InputFile input(".hdf5");
  const std::string& path = input.write(data, size);
  try {
    const auto file = apo::data::TrajectoryFile::open(path, apo::data::TrajectoryFormat::automatic, "lift");
    file->attributes();
    for (int64_t e = 0; e < file->num_episodes(); ++e) {
      const auto record = file->episode(e);
      if (record.sources.size() != record.actions.size() || record.recorded.size() != record.actions.size()) __builtin_trap();
      for (int64_t t = 0; t < record.num_steps(); ++t) file->observation(e, t);
    }
  } catch (const apo::Error& error) {
    if (*error.what() == '\0') __builtin_trap();
  }
  // whatever the file was, nothing of it stays open
  if (H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL) != 0) __builtin_trap();
  return 0;
}
