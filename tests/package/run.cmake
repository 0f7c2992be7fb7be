# Installs molt into a fresh folder, and against it builds and runs what outsiders write: a program that links the
# library, and the reduction method of docs/reduction.md as a plugin of the installed tool.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  if(result)
    message(FATAL_ERROR "failed: ${ARGN}\n${output}${errors}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# Runs a command that must end with exit code 2 and a message that matches.
function(refused pattern)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  if(NOT result EQUAL 2 OR NOT errors MATCHES "${pattern}")
    message(FATAL_ERROR "wanted exit code 2 and \"${pattern}\", got ${result}: ${ARGN}\n${output}${errors}")
  endif()
endfunction()

# Configures and builds SOURCE in BINARY against the installed package.
function(build source binary)
  run(${CMAKE_COMMAND} -G Ninja -S ${source} -B ${binary} -DCMAKE_PREFIX_PATH=${WORK}/prefix
      -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror")
  run(${CMAKE_COMMAND} --build ${binary})
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
set(molt ${WORK}/prefix/bin/molt)

build(${CMAKE_CURRENT_LIST_DIR} ${WORK}/build)
run(${WORK}/build/hello_molt ${MODEL})
string(LENGTH "${output}" length)
if(length LESS 50)
  message(FATAL_ERROR "the program generated too little text: '${output}'")
endif()
run(${molt} inspect ${MODEL})
if(NOT output MATCHES "mamba2")
  message(FATAL_ERROR "the installed tool says: '${output}'")
endif()

build(${CMAKE_CURRENT_LIST_DIR}/../../examples ${WORK}/examples)
set(plugin ${WORK}/examples/libstill.so)
set(prompt "The history of the city begins with a small village near the river, where fishermen and farmers lived")
run(${molt} inspect --methods --plugin ${plugin})
if(NOT output MATCHES "\n  still  the tokens go whose residual stream the block changed least\n")
  message(FATAL_ERROR "the plugin's method is not listed:\n${output}")
endif()
run(${molt} generate ${MODEL} --prompt ${prompt} --max-tokens 4 --json --plugin ${plugin}
    --reduce still:flops=0.2,carry=on)
string(JSON method GET "${output}" reduction spec method)
string(JSON cut GET "${output}" reduction cut)
string(JSON fate GET "${output}" reduction fates 0 fate)
if(NOT method STREQUAL still OR NOT fate STREQUAL pruned OR cut LESS 0.1 OR cut GREATER 0.25)
  message(FATAL_ERROR "the plugin's method did: '${output}'")
endif()
# Given twice it is loaded once.
run(${molt} inspect ${MODEL} --plugin ${plugin} --plugin ${plugin} --reduce still)
refused("unknown method 'still'" ${molt} inspect ${MODEL} --reduce still)
refused("libname_taken.so: there is a method utr already" ${molt} inspect ${MODEL} --plugin ${WORK}/build/libname_taken.so)
refused("libno_method.so: brings no reduction method" ${molt} inspect ${MODEL} --plugin ${WORK}/build/libno_method.so)
