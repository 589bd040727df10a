# apo::torch: LibTorch from the PyPI wheel, its CPU half linked directly, so that nothing needs a CUDA toolkit; the CUDA
# half is loaded at run time where there is a GPU.
#   APO_TORCH_ROOT  the wheel's torch directory; who includes this file knows where to look for it
set(APO_TORCH_VERSION 2.11.0)
if(NOT EXISTS "${APO_TORCH_ROOT}/include/ATen/ATen.h")
  message(FATAL_ERROR "LibTorch ${APO_TORCH_VERSION}: expected the torch directory of the PyPI wheel in APO_TORCH_ROOT, found "
                      "\"${APO_TORCH_ROOT}\"; set -DAPO_TORCH_ROOT= or -DAPO_VENV=, or run scripts/setup.sh")
endif()
if(EXISTS "${APO_TORCH_ROOT}/version.py")
  file(STRINGS "${APO_TORCH_ROOT}/version.py" _apo_torch_version REGEX "^__version__")
  string(REGEX MATCH "[0-9]+[.][0-9]+[.][0-9]+" _apo_torch_version "${_apo_torch_version}")
  if(NOT _apo_torch_version STREQUAL APO_TORCH_VERSION)
    message(FATAL_ERROR "${APO_TORCH_ROOT}: expected LibTorch ${APO_TORCH_VERSION}, found ${_apo_torch_version}")
  endif()
endif()
if(NOT TARGET apo::torch)
  add_library(apo::c10 SHARED IMPORTED)
  set_target_properties(apo::c10 PROPERTIES IMPORTED_LOCATION "${APO_TORCH_ROOT}/lib/libc10.so")
  add_library(apo::torch SHARED IMPORTED)
  set_target_properties(apo::torch PROPERTIES
    IMPORTED_LOCATION "${APO_TORCH_ROOT}/lib/libtorch_cpu.so"
    INTERFACE_INCLUDE_DIRECTORIES
      "${APO_TORCH_ROOT}/include;${APO_TORCH_ROOT}/include/torch/csrc/api/include"
    INTERFACE_LINK_LIBRARIES apo::c10
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
endif()
