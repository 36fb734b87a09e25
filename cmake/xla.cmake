# What csrc/xla is compiled and linked with, and whether this TensorFlow has it.
set(xla_sources csrc/xla/host_calls.cc csrc/xla/register_call.cc
    csrc/xla/registrations.cc csrc/xla/xla_kernels.cc)
set(xla_include_directories ${TENSORFLOW_INCLUDE_DIR}
    ${TENSORFLOW_INCLUDE_DIR}/external/highwayhash
    ${TENSORFLOW_INCLUDE_DIR}/external/farmhash_archive/src)
set(xla_link_libraries -l:libtensorflow_framework.so.2 -l:libtensorflow_cc.so.2)

# Sets `result` to what is missing, to "" where all sources meet their headers and the
# one that asks XLA for its registry links. (To compile them all takes a minute.)
function(find_xla_problem result)
  set(compiler ${CMAKE_CXX_COMPILER} -std=c++${TENSORFLOW_CXX_STANDARD} -w -fPIC -Icsrc)
  foreach(directory ${xla_include_directories})
    list(APPEND compiler -isystem ${directory})
  endforeach()
  foreach(definition ${TENSORFLOW_DEFINITIONS})
    list(APPEND compiler -D${definition})
  endforeach()
  set(object ${CMAKE_CURRENT_BINARY_DIR}/xla_probe.so)
  set(search WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} OUTPUT_QUIET
      ERROR_VARIABLE output RESULT_VARIABLE failed)
  execute_process(COMMAND ${compiler} -E ${xla_sources} ${search})
  if(NOT failed)
    execute_process(COMMAND ${compiler} -shared -Wl,-z,defs csrc/xla/register_call.cc
                            -o ${object} -L${TENSORFLOW_LIBRARY_DIR} ${xla_link_libraries}
                    ${search})
  endif()
  set(reason "")
  if(failed)
    # The compiler's own words, fit for a line of JSON.
    string(REGEX MATCH "[^\n]*(error:|undefined reference|cannot find)[^\n]*" reason
           "${output}")
    string(REGEX REPLACE "[\"\\]" "'" reason "${reason}")
    string(REPLACE "${TENSORFLOW_INCLUDE_DIR}/" "" reason "${reason}")
    set(reason "TensorFlow ${TENSORFLOW_VERSION} lacks what it is made of: ${reason}")
  endif()
  set(${result} "${reason}" PARENT_SCOPE)
endfunction()
