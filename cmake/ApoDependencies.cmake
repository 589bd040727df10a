# Everything that the library stands on, as imported targets.
find_package(Threads REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(Eigen3 REQUIRED NO_MODULE)

# HDF5's C library by name: CMake's own module needs the C language in every project that uses us.
find_path(APO_HDF5_INCLUDE hdf5.h PATH_SUFFIXES hdf5/serial REQUIRED)
find_library(APO_HDF5_LIBRARY NAMES hdf5_serial hdf5 PATH_SUFFIXES hdf5/serial REQUIRED)
find_path(APO_XXHASH_INCLUDE xxhash.h REQUIRED)
find_path(APO_BOOST_INCLUDE boost/beast/version.hpp REQUIRED)
find_path(APO_MSGPACK_INCLUDE msgpack/v3/parse.hpp REQUIRED)  # of msgpack-cxx
find_path(APO_SENTENCEPIECE_INCLUDE sentencepiece_processor.h REQUIRED)
find_library(APO_SENTENCEPIECE_LIBRARY sentencepiece REQUIRED)
find_library(APO_WEBP_LIBRARY webp REQUIRED)
find_library(APO_WEBPMUX_LIBRARY webpmux REQUIRED)
find_path(APO_TURBOJPEG_INCLUDE turbojpeg.h REQUIRED)
find_library(APO_TURBOJPEG_LIBRARY turbojpeg REQUIRED)
find_path(APO_PNG_INCLUDE png.h REQUIRED)
find_library(APO_PNG_LIBRARY NAMES png16 png REQUIRED)
if(NOT TARGET apo::hdf5)
  add_library(apo::hdf5 INTERFACE IMPORTED)
  set_target_properties(apo::hdf5 PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${APO_HDF5_INCLUDE}" INTERFACE_LINK_LIBRARIES "${APO_HDF5_LIBRARY}")
  add_library(apo::xxhash INTERFACE IMPORTED)  # its headers are all of it
  set_target_properties(apo::xxhash PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${APO_XXHASH_INCLUDE}")
  add_library(apo::msgpack INTERFACE IMPORTED)
  set_target_properties(apo::msgpack PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${APO_MSGPACK_INCLUDE}" INTERFACE_COMPILE_DEFINITIONS MSGPACK_NO_BOOST)
  add_library(apo::beast INTERFACE IMPORTED)  # Beast and Asio, their code in one of our sources
  set_target_properties(apo::beast PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${APO_BOOST_INCLUDE}"
    INTERFACE_COMPILE_DEFINITIONS "BOOST_ASIO_SEPARATE_COMPILATION;BOOST_BEAST_SEPARATE_COMPILATION"
    INTERFACE_LINK_LIBRARIES Threads::Threads)
  add_library(apo::sentencepiece INTERFACE IMPORTED)
  set_target_properties(apo::sentencepiece PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${APO_SENTENCEPIECE_INCLUDE}" INTERFACE_LINK_LIBRARIES "${APO_SENTENCEPIECE_LIBRARY}")
  add_library(apo::jpeg INTERFACE IMPORTED)
  set_target_properties(apo::jpeg PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${APO_TURBOJPEG_INCLUDE}" INTERFACE_LINK_LIBRARIES "${APO_TURBOJPEG_LIBRARY}")
  add_library(apo::png INTERFACE IMPORTED)
  set_target_properties(apo::png PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${APO_PNG_INCLUDE}" INTERFACE_LINK_LIBRARIES "${APO_PNG_LIBRARY}")
  add_library(apo::webp INTERFACE IMPORTED)
  set_target_properties(apo::webp PROPERTIES
    INTERFACE_LINK_LIBRARIES "${APO_WEBPMUX_LIBRARY};${APO_WEBP_LIBRARY}")
endif()

# The virtual environment that scripts/setup.sh makes.
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
include("${CMAKE_CURRENT_LIST_DIR}/ApoTorch.cmake")
set(APO_WHEEL_LIBRARY_DIRS "${APO_TORCH_ROOT}/lib")

# A clone may be moved with all that was built in it: what lies in it is found from where the programs lie.
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)
function(apo_from_programs directory result)
  file(RELATIVE_PATH relative "${CMAKE_BINARY_DIR}/bin" "${directory}")
  cmake_path(IS_PREFIX PROJECT_SOURCE_DIR "${directory}" NORMALIZE inside)
  if(inside)
    set(${result} "$ORIGIN/${relative}" PARENT_SCOPE)
  else()
    set(${result} "${directory}" PARENT_SCOPE)
  endif()
endfunction()
apo_from_programs("${APO_TORCH_ROOT}/lib" _apo_torch_rpath)
list(APPEND CMAKE_BUILD_RPATH "${_apo_torch_rpath}")

if(APO_MUJOCO AND NOT TARGET apo::mujoco)
  # Headers and library are inside the PyPI wheel.
  file(GLOB _apo_mujoco_hints "${APO_VENV}/lib/python3*/site-packages/mujoco")
  find_path(APO_MUJOCO_INCLUDE mujoco/mujoco.h HINTS ${_apo_mujoco_hints} PATH_SUFFIXES include)
  file(GLOB APO_MUJOCO_LIBRARY "${APO_MUJOCO_INCLUDE}/../libmujoco.so*")
  if(NOT APO_MUJOCO_INCLUDE OR NOT APO_MUJOCO_LIBRARY)
    message(FATAL_ERROR "MuJoCo not found in ${APO_VENV}; run scripts/setup.sh, or configure with -DAPO_MUJOCO=OFF")
  endif()
  list(GET APO_MUJOCO_LIBRARY 0 APO_MUJOCO_LIBRARY)
  get_filename_component(APO_MUJOCO_LIBRARY "${APO_MUJOCO_LIBRARY}" REALPATH)
  get_filename_component(_apo_mujoco_dir "${APO_MUJOCO_LIBRARY}" DIRECTORY)
  list(APPEND APO_WHEEL_LIBRARY_DIRS "${_apo_mujoco_dir}")
  # Its functions are loaded at run time (src/simulation/mujoco_library.h).
  add_library(apo::mujoco INTERFACE IMPORTED)
  set_target_properties(apo::mujoco PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${APO_MUJOCO_INCLUDE}")
  apo_from_programs("${_apo_mujoco_dir}" _apo_mujoco_rpath)
  list(APPEND CMAKE_BUILD_RPATH "${_apo_mujoco_rpath}")
endif()
