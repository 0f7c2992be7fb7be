# The CUDA backend, where it is asked for: kernels in .cu files, everything around them in .cc files.
#
# Host code in .cu files is warned about as elsewhere but for -Wpedantic, which what nvcc generates is not made for. 554:
# nvcc's front end takes Matrix's conversion to Matrix<const T> for one that can never be called.
if(NOT MOLT_CUDA)
  return()
endif()
molt_folder(molt_cuda FOLDERS kernels/cuda LINK molt_tensor CUDA::cudart_static CUDA::cublasLt)
file(GLOB cuda_kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.cu)
target_sources(molt_cuda PRIVATE ${cuda_kernels})
target_compile_options(molt_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;--diag-suppress=554;-Xcompiler=-Wall;-Xcompiler=-Wextra>"
  "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${MOLT_WERROR}>>:-Werror=all-warnings>")
