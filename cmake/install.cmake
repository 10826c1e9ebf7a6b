# What `cmake --install` puts into a prefix: the library, its public headers, the CMake package and
# the command-line program. A Python wheel takes only what python/ installs.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/understudy)
install(TARGETS understudy EXPORT understudyTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/understudy DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  COMPONENT development FILES_MATCHING PATTERN *.h)
install(EXPORT understudyTargets NAMESPACE understudy:: DESTINATION ${package_dir}
  COMPONENT development)
configure_package_config_file(cmake/understudyConfig.cmake.in understudyConfig.cmake
  INSTALL_DESTINATION ${package_dir})
# The interface is not promised yet: another minor version is another library.
write_basic_package_version_file(understudyConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/understudyConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/understudyConfigVersion.cmake cmake/FindLiburing.cmake
  DESTINATION ${package_dir} COMPONENT development)
if(UNDERSTUDY_CLI)
  install(TARGETS understudy_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
endif()
