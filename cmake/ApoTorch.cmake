# apo::torch: LibTorch from the PyPI wheel, its CPU half linked directly, so that nothing needs a CUDA toolkit; the CUDA
# half is loaded at run time where there is a GPU.
#   APO_TORCH_ROOT  the wheel's torch directory (default: found in APO_VENV)
#   APO_VENV        the virtual environment that scripts/setup.sh makes (default: $APO_VENV or .venv)
set(APO_TORCH_VERSION 2.11.0)
if(NOT APO_VENV)
  if(DEFINED ENV{APO_VENV})
    set(APO_VENV "$ENV{APO_VENV}")
  else()
    set(APO_VENV "${PROJECT_SOURCE_DIR}/.venv")
  endif()
endif()
set(APO_VENV "${APO_VENV}" CACHE PATH "Virtual environment with the wheels")
file(GLOB _apo_torch_hints "${APO_VENV}/lib/python3*/site-packages/torch")
find_path(APO_TORCH_ROOT NAMES include/ATen/ATen.h HINTS ${_apo_torch_hints} ${CMAKE_PREFIX_PATH}
          NO_DEFAULT_PATH DOC "LibTorch root")
if(NOT APO_TORCH_ROOT)
  message(FATAL_ERROR "LibTorch not found (looked in ${APO_VENV}); run scripts/setup.sh or set -DAPO_TORCH_ROOT=")
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
