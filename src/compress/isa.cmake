# Stamps the float64 linear algebra of compression once per instruction set, as kernels/cpu/isa.cmake does its sources;
# and Eigen with it, in a namespace of its own each time.
set(dense_sources ${PROJECT_SOURCE_DIR}/src/compress/isa/dense.cc)

# molt_dense(NAME FLAGS...)
function(molt_dense name)
  molt_isa(dense_${name} dense_sources -DEigen=molt_eigen_${name} ${ARGN})
  target_link_libraries(molt_isa_dense_${name} PRIVATE Eigen3::Eigen)
endfunction()

molt_dense(portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  molt_dense(avx2 ${avx2})
  # GCC takes its own intrinsics' undefined registers for a fault; clang-tidy does not know the name of that warning.
  molt_dense(avx512 ${avx512} -Wno-uninitialized -Wno-maybe-uninitialized -Wno-unknown-warning-option)
endif()
