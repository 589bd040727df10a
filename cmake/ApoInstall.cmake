# install + export, so that find_package(apo) works elsewhere. What is installed may be moved; only apoBuildPaths.cmake
# and the last entries of the run paths remember where LibTorch and MuJoCo were, for an installation outside of a Python
# environment.
include(CMakePackageConfigHelpers)
set(_apo_cmake_dir lib/cmake/apo)
install(TARGETS apo EXPORT apoTargets LIBRARY DESTINATION lib)
install(EXPORT apoTargets NAMESPACE apo:: DESTINATION ${_apo_cmake_dir})
install(DIRECTORY include/apo DESTINATION include FILES_MATCHING PATTERN "*.h")
install(DIRECTORY configs DESTINATION share/apo)
install(FILES LICENSE DESTINATION share/doc/apo)
configure_package_config_file(cmake/apoConfig.cmake.in "${CMAKE_BINARY_DIR}/apoConfig.cmake"
  INSTALL_DESTINATION ${_apo_cmake_dir})
write_basic_package_version_file("${CMAKE_BINARY_DIR}/apoConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
file(WRITE "${CMAKE_BINARY_DIR}/apoBuildPaths.cmake" "set(APO_BUILD_TORCH_ROOT \"${APO_TORCH_ROOT}\")\n")
install(FILES "${CMAKE_BINARY_DIR}/apoConfig.cmake" "${CMAKE_BINARY_DIR}/apoConfigVersion.cmake"
  "${CMAKE_BINARY_DIR}/apoBuildPaths.cmake" cmake/ApoTorch.cmake DESTINATION ${_apo_cmake_dir})
