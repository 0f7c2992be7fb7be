# What a build may switch, and the flags that every target gets.
option(MOLT_TESTS "Build the tests" ON)
option(MOLT_BENCH "Build the micro-benchmarks" OFF)
option(MOLT_FUZZ "Build the fuzz targets (clang)" OFF)
option(MOLT_CUDA "Build the CUDA backend (needs nvcc and the CUDA libraries, no GPU)" OFF)
set(MOLT_CUDA_ARCHITECTURES 80 90 CACHE STRING "GPUs that the CUDA backend is compiled for; one is quicker")
set(MOLT_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=: address,undefined or thread")

include(GNUInstallDirs)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")

# molt_common: for everything; molt_flags: and instrumented, where sanitizers are asked for.
add_library(molt_common INTERFACE)
target_compile_options(molt_common INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wno-missing-field-initializers;-fno-math-errno>")
# Eigen aligns memory by itself when it is compiled with the address sanitizer, as tests are not; matrices pass between.
target_compile_definitions(molt_common INTERFACE EIGEN_MALLOC_ALREADY_ALIGNED=0)
option(MOLT_WERROR "Treat warnings as errors" OFF)
if(MOLT_WERROR)
  target_compile_options(molt_common INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
add_library(molt_flags INTERFACE)
target_link_libraries(molt_flags INTERFACE molt_common)
if(MOLT_SANITIZE)  # lines in stack traces, and assertions, whatever the build type
  target_compile_options(molt_flags INTERFACE -fsanitize=${MOLT_SANITIZE} -fno-omit-frame-pointer
                                              -fno-sanitize-recover=all -g1 -UNDEBUG)
  target_link_options(molt_common INTERFACE -fsanitize=${MOLT_SANITIZE})
endif()
