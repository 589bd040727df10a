// How files are opened for reading, and texts in them read.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "data/hdf5.h"

namespace apo::data::hdf5 {

/// The reason of an open that failed because somebody has the file open for writing.
inline constexpr const char* kBeingWritten = "another process is writing this file; wait for its end";

/// A file access list whose driver does nothing but read at an offset. HDF5's own driver asks for a cache of
/// small reads (the metadata accumulator), which damaged addresses make read outside its memory (1.10.8);
/// here there is none.
/// A file that is open for writing elsewhere is refused: what of it is on the disk is whole only by chance.
/// Reading behind the file's end is an error, also when the file was cut after it was opened.
Handle reading_access();

/// One text through `read(memory type, buffer)`, which returns a negative number where it fails; `type` is
/// how the text is stored. Nothing: it failed, or the text is beyond 16 MiB.
std::optional<std::string> read_text(int64_t type, const std::function<int(int64_t memory, void* out)>& read);

}  // namespace apo::data::hdf5
