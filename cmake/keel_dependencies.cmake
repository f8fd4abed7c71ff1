# What keel's sources need. No public header includes any of it; keel-config.cmake finds the same
# packages again, because a static library passes its link dependencies on.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(liburing REQUIRED IMPORTED_TARGET liburing>=2.3)
find_package(Boost 1.70 REQUIRED COMPONENTS context)
