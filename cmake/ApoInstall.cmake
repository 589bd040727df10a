# install + export, so that find_package(apo) works elsewhere.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
set(_apo_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/apo")
install(TARGETS apo ${APO_ROOM_TARGETS} EXPORT apoTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT apoTargets NAMESPACE apo:: DESTINATION ${_apo_cmake_dir})
install(DIRECTORY include/apo DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/apo)
configure_package_config_file(cmake/apoConfig.cmake.in "${CMAKE_BINARY_DIR}/apoConfig.cmake"
  INSTALL_DESTINATION ${_apo_cmake_dir})
write_basic_package_version_file("${CMAKE_BINARY_DIR}/apoConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/apoConfig.cmake" "${CMAKE_BINARY_DIR}/apoConfigVersion.cmake"
  cmake/ApoTorch.cmake cmake/ApoDependencies.cmake DESTINATION ${_apo_cmake_dir})
