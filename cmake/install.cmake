# cmake --install: the tool, the library, the public headers and a package for find_package(molt).
#
# Who uses the library needs nothing else: its headers stand on the standard library alone.
include(CMakePackageConfigHelpers)

install(TARGETS molt EXPORT molt_targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS molt_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
file(RELATIVE_PATH library_from_tool ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
set_target_properties(molt_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${library_from_tool}")
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/molt DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/molt)
install(EXPORT molt_targets NAMESPACE molt:: FILE moltTargets.cmake DESTINATION ${package_folder})
file(WRITE ${CMAKE_BINARY_DIR}/moltConfig.cmake "include(\${CMAKE_CURRENT_LIST_DIR}/moltTargets.cmake)\n")
write_basic_package_version_file(${CMAKE_BINARY_DIR}/moltConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/moltConfig.cmake ${CMAKE_BINARY_DIR}/moltConfigVersion.cmake
        DESTINATION ${package_folder})
