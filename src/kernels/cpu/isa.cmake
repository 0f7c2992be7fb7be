# Stamps the sources of kernels/cpu/isa/ once per instruction set: molt::portable, molt::avx2, ...
#
# -O3 whatever the build type: at -O2 the register tiles are not unrolled, and run three times slower. With sanitizers
# -O1, which compiles in a third of the time, but for the newest instruction sets: nearly all tests run on those, and
# products with quantized weights are the same bits on both only as far as the compiler fuses the same operations;
# and for Eigen (compress/isa.cmake), which is nothing but small functions to be inlined.
# -ffp-contract=fast lets the compiler fuse a multiplication and an addition; ISO mode would forbid it.
file(GLOB isa_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cpu/isa/*.cc)
# What AMX multiplies by; the rest of its table is avx512_bf16's, not compiled again.
file(GLOB amx_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cpu/amx/*.cc)

# molt_isa(NAME SOURCES FLAGS...), SOURCES being the name of a list.
function(molt_isa name sources)
  set(isa_optimization -O3)
  if(MOLT_SANITIZE AND NOT name MATCHES "^(avx512_bf16|avx512_amx|dense_.*)$")
    set(isa_optimization -O1)
  endif()
  add_library(molt_isa_${name} OBJECT ${${sources}})
  target_include_directories(molt_isa_${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(molt_isa_${name} PRIVATE MOLT_ISA=${name})
  target_compile_options(molt_isa_${name} PRIVATE ${isa_optimization} -ffp-contract=fast -Wno-psabi ${ARGN})
  target_link_libraries(molt_isa_${name} PRIVATE molt_flags)
  set_property(GLOBAL APPEND PROPERTY molt_folders molt_isa_${name})
endfunction()

# On 64-bit Arm `portable` is NEON: its vectors have four lanes, and every such processor has 32 registers of them.
molt_isa(portable isa_sources)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set(avx512_bf16 ${avx512} -mavx512bf16 -mavx512vnni)
  molt_isa(avx2 isa_sources ${avx2})
  molt_isa(avx512 isa_sources ${avx512})
  molt_isa(avx512_bf16 isa_sources ${avx512_bf16})
  molt_isa(avx512_amx amx_sources ${avx512_bf16} -mamx-tile -mamx-bf16 -mamx-int8)
endif()
