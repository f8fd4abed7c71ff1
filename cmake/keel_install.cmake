# What `cmake --install` adds to the layers' own rules: find_package(keel) and pkg-config files.

include(CMakePackageConfigHelpers)

set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/keel)
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/keel-config.cmake.in
  ${PROJECT_BINARY_DIR}/keel-config.cmake
  INSTALL_DESTINATION ${config_folder})
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/keel-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(EXPORT keel_targets NAMESPACE keel:: FILE keel-targets.cmake DESTINATION ${config_folder})
install(
  FILES ${PROJECT_BINARY_DIR}/keel-config.cmake ${PROJECT_BINARY_DIR}/keel-config-version.cmake
  DESTINATION ${config_folder})

# The prefix in a .pc file is found from where the file lies, so an installed tree may be moved and
# `cmake --install --prefix` may differ from what was configured.
set(pc_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH pc_libdir /prefix /prefix/${CMAKE_INSTALL_LIBDIR})
file(RELATIVE_PATH pc_prefix /prefix/${pc_folder} /prefix)
string(REGEX REPLACE "/$" "" pc_prefix ${pc_prefix})

# Static libraries are searched in the order of the command line: the highest layer comes first.
get_property(layers GLOBAL PROPERTY KEEL_LAYERS)
list(REVERSE layers)
list(TRANSFORM layers PREPEND -lkeel_)
list(JOIN layers " " pc_layer_libs)

foreach(name keel keel-kevent_sys)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${pc_folder})
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/man/ DESTINATION ${CMAKE_INSTALL_MANDIR})
