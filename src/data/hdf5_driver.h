// How files are opened for reading.
#pragma once

#include "data/hdf5.h"

namespace apo::data::hdf5 {

/// A file access list whose driver does nothing but read at an offset. HDF5's own driver asks for a cache of small reads
/// (the metadata accumulator), which damaged addresses make read outside its memory (1.10.8); here there is none.
/// Reading behind the file's end is an error, also when the file was cut after it was opened.
Handle reading_access();

}  // namespace apo::data::hdf5
