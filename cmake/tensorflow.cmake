# The libraries that TensorFlow opens: the op, and its custom calls for XLA.
foreach(variable TENSORFLOW_INCLUDE_DIR TENSORFLOW_LIBRARY_DIR TENSORFLOW_DEFINITIONS
                 TENSORFLOW_CXX_STANDARD TENSORFLOW_VERSION)
  if(NOT DEFINED ${variable})
    message(FATAL_ERROR "${variable} is not set: build through pip, or see CONTRIBUTING.md; "
            "NEGATIVE_COSINE_TENSORFLOW=0 builds the NumPy modules alone")
  endif()
endforeach()

# --- The op ---------------------------------------------------------------------------
# Only libtensorflow_framework is linked: its symbols fit one TensorFlow minor release,
# which _build_info.json records and the loader compares before it opens the library.
add_library(ops MODULE csrc/tensorflow/cpu_kernels.cc
                       csrc/tensorflow/missing_xla_kernels.cc csrc/tensorflow/ops.cc)
set_target_properties(ops PROPERTIES PREFIX "" OUTPUT_NAME
                      _negative_cosine_ops${NEGATIVE_COSINE_RELEASE_SUFFIX}
                      CXX_STANDARD ${TENSORFLOW_CXX_STANDARD}
                      LIBRARY_OUTPUT_DIRECTORY ${NEGATIVE_COSINE_OUTPUT_DIR})
target_include_directories(ops SYSTEM PRIVATE ${TENSORFLOW_INCLUDE_DIR})
target_compile_definitions(ops PRIVATE ${TENSORFLOW_DEFINITIONS} NDEBUG)
target_compile_options(ops PRIVATE ${warnings} ${framework_options})
target_link_directories(ops PRIVATE ${TENSORFLOW_LIBRARY_DIR})
link_shared_core(ops)
target_link_libraries(ops PRIVATE -l:libtensorflow_framework.so.2)
if(with_cuda)
  target_sources(ops PRIVATE csrc/tensorflow/gpu_kernels.cc)
endif()

# --- The XLA kernels ------------------------------------------------------------------
# A library of its own, optional: it uses headers and symbols that are XLA's own and move
# between releases. What it lacks is a line of the build, and an error of the compiled
# function (csrc/tensorflow/missing_xla_kernels.cc).
include(${CMAKE_CURRENT_LIST_DIR}/xla.cmake)
if(NEGATIVE_COSINE_XLA)
  find_xla_problem(without_xla_because)
else()
  set(without_xla_because "NEGATIVE_COSINE_XLA=0")
endif()
if(without_xla_because AND NEGATIVE_COSINE_RELEASES)
  message(FATAL_ERROR "NEGATIVE_COSINE_TENSORFLOWS asks for the libraries of compiled functions "
          "too, and those for TensorFlow ${TENSORFLOW_VERSION} cannot be built: "
          "${without_xla_because}")
endif()
if(without_xla_because)
  message(STATUS "negative_cosine: building without XLA kernels: ${without_xla_because}")
  return()
endif()

add_library(xla_calls MODULE ${xla_sources})
set_target_properties(xla_calls PROPERTIES PREFIX "" OUTPUT_NAME
                      _negative_cosine_xla${NEGATIVE_COSINE_RELEASE_SUFFIX}
                      CXX_STANDARD ${TENSORFLOW_CXX_STANDARD}
                      LIBRARY_OUTPUT_DIRECTORY ${NEGATIVE_COSINE_OUTPUT_DIR})
target_include_directories(xla_calls SYSTEM PRIVATE ${xla_include_directories})
target_compile_definitions(xla_calls PRIVATE ${TENSORFLOW_DEFINITIONS} NDEBUG)
target_compile_options(xla_calls PRIVATE ${warnings} ${framework_options})
target_link_directories(xla_calls PRIVATE ${TENSORFLOW_LIBRARY_DIR})
link_shared_core(xla_calls)
target_link_libraries(xla_calls PRIVATE ${xla_link_libraries})
if(with_cuda)
  target_sources(xla_calls PRIVATE csrc/xla/cuda_calls.cc)
  target_compile_definitions(xla_calls PRIVATE NEGATIVE_COSINE_WITH_CUDA=1)
endif()
