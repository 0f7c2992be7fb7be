# molt_folder(NAME FOLDER... LINK targets): one object library for the sources of a folder of src/.
#
# Object libraries, because self-registering files (backends, architectures, ...) must be linked whole. Sources are globbed
# with CONFIGURE_DEPENDS, so that a new file is a new feature without an edit here.
function(molt_folder name)
  cmake_parse_arguments(arg "" "" "FOLDERS;LINK" ${ARGN})
  set(patterns ${arg_FOLDERS})
  list(TRANSFORM patterns APPEND "/*.cc")
  file(GLOB sources CONFIGURE_DEPENDS ${patterns})
  add_library(${name} OBJECT ${sources})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${name} PUBLIC ${arg_LINK} PRIVATE $<BUILD_INTERFACE:molt_flags>)
  if(MOLT_SANITIZE)
    target_compile_options(${name} PRIVATE -O1)
  endif()
  set_property(GLOBAL APPEND PROPERTY molt_folders ${name})
endfunction()
