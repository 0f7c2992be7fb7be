# The CUDA backend, where it is asked for: kernels in .cu files, everything around them in .cc files.
#
# 554: nvcc's front end does not see that Matrix's conversion is for other types. The C++ standard is given by
# hand: CMake 3.25 does not know that nvcc can do C++20. Host code in .cu files is warned
# about as elsewhere but for -Wpedantic, which what nvcc generates is not made for.
if(NOT MOLT_CUDA)
  return()
endif()
file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.cc
     ${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.cu)
add_library(molt_cuda OBJECT ${cuda_sources})
target_include_directories(molt_cuda PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
set_property(TARGET molt_cuda PROPERTY CXX_STANDARD)
target_compile_options(molt_cuda PRIVATE -std=c++20
  "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;--diag-suppress=554;-Xcompiler=-Wall;-Xcompiler=-Wextra>"
  "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${MOLT_WERROR}>>:-Werror=all-warnings>")
target_link_libraries(molt_cuda PUBLIC molt_tensor CUDA::cudart_static CUDA::cublasLt
                      PRIVATE $<BUILD_INTERFACE:molt_flags>)
set_property(GLOBAL APPEND PROPERTY molt_folders molt_cuda)
