# cmake --install: the tool, the library, the public headers and a package for find_package(molt).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
