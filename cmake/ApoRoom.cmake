# apo_room(NAME [USES rooms...] [LINK PRIVATE targets...] [SOURCES files...] [PLAIN] [WHEN VARIABLE])
#   One static library a room from src/NAME/**/*.cpp. It sees the headers of the rooms it USES and no others' libraries.
#   PLAIN  the room never sees torch.
#   WHEN   without that option the room's sources are left out except src/NAME/absent.cpp.
#   USES says alone who may include whom: rooms.txt in the build directory hands it to tests/structure.
# apo_library()   all rooms as one shared library, which programs and other people's projects link.
# apo_commit(TARGET)  adds the commit that was built, asked anew by every build: a file that changes only with it.
# apo_app(NAME)   a program from apps/NAME.cpp (dashes become underscores).
# apo_test(ROOM)  one test binary from tests/ROOM/*_test.cpp.
# apo_test(device)  one from all tests/*/device_test.cpp: their accelerator changes what a process may do (autograd
#                   then has threads, and a fork of the process has no gradients).

set(APO_ROOMS_FILE "${CMAKE_BINARY_DIR}/rooms.txt")
file(WRITE "${APO_ROOMS_FILE}" "")

if(APO_PCH)
  # The torch headers cost 8 s a file; precompiled once they cost 2.
  if(NOT EXISTS "${CMAKE_BINARY_DIR}/apo_pch.cpp")  # a fresh time stamp would rebuild everything
    file(WRITE "${CMAKE_BINARY_DIR}/apo_pch.cpp" "")
  endif()
  add_library(apo_pch OBJECT "${CMAKE_BINARY_DIR}/apo_pch.cpp")
  target_link_libraries(apo_pch PRIVATE apo::torch)
  target_precompile_headers(apo_pch PRIVATE <torch/types.h>)
endif()
function(apo_use_pch target)
  if(APO_PCH)
    # a precompiled header only fits code of the same kind: position-independent as in the rooms, for programs too
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "EXECUTABLE")
      set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
      target_compile_options(${target} PRIVATE -fPIC)
    endif()
    target_precompile_headers(${target} REUSE_FROM apo_pch)
  endif()
endfunction()

function(apo_room name)
  cmake_parse_arguments(ROOM "PLAIN" "WHEN" "USES;LINK;SOURCES" ${ARGN})
  list(JOIN ROOM_USES " " uses)
  file(APPEND "${APO_ROOMS_FILE}" "${name} ${uses}\n")
  if(ROOM_SOURCES)
    set(sources ${ROOM_SOURCES})
  else()
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${name}/*.cpp")
    list(FILTER sources EXCLUDE REGEX "src/base/((log|text).cpp$|cuda/)")
  endif()
  if(ROOM_WHEN AND NOT ${ROOM_WHEN})
    list(FILTER sources INCLUDE REGEX "/absent.cpp$")
    list(FILTER ROOM_LINK EXCLUDE REGEX "^apo::mujoco$")
  else()
    list(FILTER sources EXCLUDE REGEX "/absent.cpp$")
  endif()
  set(target apo_${name})
  add_library(${target} STATIC ${sources})
  add_library(apo::${name} ALIAS ${target})
  target_include_directories(${target} PUBLIC
    "${PROJECT_SOURCE_DIR}/include" PRIVATE "${PROJECT_SOURCE_DIR}/src")
  foreach(room IN LISTS ROOM_USES)
    target_link_libraries(${target} PUBLIC apo_${room})
  endforeach()
  if(ROOM_LINK)
    target_link_libraries(${target} ${ROOM_LINK})
  endif()
  if(NOT ROOM_PLAIN)
    target_link_libraries(${target} PUBLIC apo::torch)
    apo_use_pch(${target})
  endif()
  set(APO_ROOMS ${APO_ROOMS} ${name} PARENT_SCOPE)
  list(REMOVE_ITEM ROOM_LINK PRIVATE PUBLIC)
  set(APO_ROOM_LIBRARIES ${APO_ROOM_LIBRARIES} ${ROOM_LINK} PARENT_SCOPE)
endfunction()

function(apo_commit target)
  set(file "${CMAKE_BINARY_DIR}/commit.cpp")
  add_custom_target(apo_commit BYPRODUCTS "${file}"
    COMMAND "${CMAKE_COMMAND}" -DSOURCE=${PROJECT_SOURCE_DIR} -DOUTPUT=${file} -P "${PROJECT_SOURCE_DIR}/cmake/ApoCommit.cmake")
  target_sources(${target} PRIVATE "${file}")
  set_source_files_properties("${file}" PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  add_dependencies(${target} apo_commit)
endfunction()

function(_apo_shared_library target)  # LIBRARIES...
  add_library(${target} SHARED "${CMAKE_BINARY_DIR}/apo_library.cpp")
  foreach(room IN LISTS APO_ROOMS)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:apo_${room}>)
    add_dependencies(${target} apo_${room})
  endforeach()
  target_include_directories(${target} PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:include>")
  target_link_libraries(${target} PUBLIC apo::torch PRIVATE ${ARGN} ${CMAKE_DL_LIBS} Threads::Threads)
  target_link_options(${target} PRIVATE LINKER:-Bsymbolic-functions LINKER:--exclude-libs,libhdf5.a)
  target_compile_features(${target} PUBLIC cxx_std_20)
  # Where the wheels' libraries are: beside ours in a Python environment, else where the build found them.
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN;$ORIGIN/../../torch/lib;$ORIGIN/../../mujoco;${APO_WHEEL_LIBRARY_DIRS}")
endfunction()

function(apo_library)
  list(JOIN APO_ROOMS " " rooms)
  set(APO_ROOMS_TEXT "${rooms}" PARENT_SCOPE)
  file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/apo_library.cpp" CONTENT "// every source belongs to a room\n")
  list(REMOVE_DUPLICATES APO_ROOM_LIBRARIES)
  _apo_shared_library(apo ${APO_ROOM_LIBRARIES})
  add_library(apo::apo ALIAS apo)
  file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/share/apo")  # as where it is installed
  file(RELATIVE_PATH _apo_configs "${CMAKE_BINARY_DIR}/share/apo" "${PROJECT_SOURCE_DIR}/configs")
  file(CREATE_LINK "${_apo_configs}" "${CMAKE_BINARY_DIR}/share/apo/configs" SYMBOLIC)
  if(APO_PACKAGE_HDF5)  # the same with HDF5 inside, for scripts/package.sh
    list(TRANSFORM APO_ROOM_LIBRARIES REPLACE "^apo::hdf5$" "${APO_PACKAGE_HDF5}")
    _apo_shared_library(apo_packaged ${APO_ROOM_LIBRARIES})
    set_target_properties(apo_packaged PROPERTIES OUTPUT_NAME apo EXCLUDE_FROM_ALL ON
      LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/package")
  endif()
  if(APO_WITH_CUDA)
    # Without torch and without the rest of the library: loaded when the first tensor on a CUDA device arrives.
    add_library(apo_cuda MODULE "${PROJECT_SOURCE_DIR}/src/objective/kernels/log_prob.cu"
                "${PROJECT_SOURCE_DIR}/src/models/sequence/kernels/elementwise.cu")
    target_include_directories(apo_cuda PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include")
    target_compile_definitions(apo_cuda PRIVATE APO_VERSION="${PROJECT_VERSION}")
    target_compile_options(apo_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fvisibility=hidden>)
    apo_from_programs("${APO_TORCH_ROOT}/../nvidia/cu13/lib" _apo_cuda_rpath)
    set_target_properties(apo_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Shared
      BUILD_RPATH "${_apo_cuda_rpath}" INSTALL_RPATH "$ORIGIN/../../nvidia/cu13/lib")
    # With LibTorch's CUDA half, whose libraries are there when it is loaded.
    add_library(apo_cuda_graph MODULE "${PROJECT_SOURCE_DIR}/src/base/cuda/graph_module.cpp")
    target_include_directories(apo_cuda_graph PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include")
    target_include_directories(apo_cuda_graph SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
    target_compile_definitions(apo_cuda_graph PRIVATE APO_VERSION="${PROJECT_VERSION}")
    target_link_libraries(apo_cuda_graph PRIVATE apo::torch "${APO_TORCH_ROOT}/lib/libtorch_cuda.so"
                          "${APO_TORCH_ROOT}/lib/libc10_cuda.so")
    set_target_properties(apo_cuda_graph PROPERTIES CXX_VISIBILITY_PRESET hidden
      INSTALL_RPATH "$ORIGIN/../../torch/lib;${APO_WHEEL_LIBRARY_DIRS}")
    add_dependencies(apo apo_cuda apo_cuda_graph)
    install(TARGETS apo_cuda apo_cuda_graph LIBRARY DESTINATION lib)
  endif()
endfunction()

function(apo_app name)
  string(REPLACE "-" "_" file ${name})
  if(NOT EXISTS "${PROJECT_SOURCE_DIR}/apps/${file}.cpp")
    return()
  endif()
  if(NOT TARGET apo_app_main)
    file(GLOB shared CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/apps/*.cpp")
    list(FILTER shared EXCLUDE REGEX "/apo_[a-z]+.cpp$")
    add_library(apo_app_main OBJECT ${shared})
    target_link_libraries(apo_app_main PUBLIC apo CLI11::CLI11)
    target_compile_definitions(apo_app_main PRIVATE APO_VERSION="${PROJECT_VERSION}")
    apo_use_pch(apo_app_main)
  endif()
  add_executable(${name} "${PROJECT_SOURCE_DIR}/apps/${file}.cpp")
  target_link_libraries(${name} PRIVATE apo_app_main)
  apo_use_pch(${name})
  add_dependencies(programs ${name})
  set_target_properties(${name} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib;$ORIGIN/../../torch/lib;${APO_WHEEL_LIBRARY_DIRS}")
  install(TARGETS ${name} RUNTIME DESTINATION bin)
  install(FILES "${PROJECT_SOURCE_DIR}/completions/bash/${name}" DESTINATION share/bash-completion/completions)
  install(FILES "${PROJECT_SOURCE_DIR}/completions/zsh/_${name}" DESTINATION share/zsh/site-functions)
endfunction()

# Each case of the binary becomes a CTest case named ROOM.Suite.Name.
function(apo_test name)
  if(name STREQUAL "device")
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/*/device_test.cpp" "${PROJECT_SOURCE_DIR}/tests/support/simulated_device.cpp")
  else()
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/${name}/*_test.cpp")
    list(FILTER sources EXCLUDE REGEX "/device_test.cpp$")
  endif()
  if(NOT sources)
    return()
  endif()
  add_executable(${name}_test ${sources})
  if(TARGET apo_${name})
    target_link_libraries(${name}_test PRIVATE apo_${name})
  endif()
  target_compile_options(${name}_test PRIVATE -Wno-missing-field-initializers  # designated initialisers
    $<$<CONFIG:Release>:-O1>)  # compiled in three quarters of the time; what they call is optimised as ever
  target_link_libraries(${name}_test PRIVATE apo_test_places apo::torch GTest::gmock GTest::gtest_main nlohmann_json::nlohmann_json ${ARGN})
  target_include_directories(${name}_test PRIVATE "${PROJECT_SOURCE_DIR}/tests" "${PROJECT_SOURCE_DIR}/src")
  apo_use_pch(${name}_test)
  gtest_discover_tests(${name}_test TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 600  # libraries read from a cold disk
    PROPERTIES TIMEOUT 600 ENVIRONMENT "OMP_NUM_THREADS=1")
endfunction()
