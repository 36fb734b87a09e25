# Finds CUDA, and builds the library `cuda_core`: the passes on a GPU.
#
# A compiler that is found gives the CUDA build. None, or an unfit one, gives the CPU build
# and says why; with NEGATIVE_COSINE_CUDA=1 it is an error.
include(${CMAKE_CURRENT_LIST_DIR}/cuda_architectures.cmake)

set(with_cuda OFF)
if(NEGATIVE_COSINE_CUDA STREQUAL "OFF")
  set(without_cuda_because "NEGATIVE_COSINE_CUDA=0")
else()
  check_language(CUDA)
  find_program(nvcc nvcc)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES OFF)  # chosen below, by the toolkit's version
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    if(CUDAToolkit_VERSION VERSION_LESS 11.8)
      set(without_cuda_because
          "${CMAKE_CUDA_COMPILER} is CUDA ${CUDAToolkit_VERSION}, older than 11.8")
    else()
      set(with_cuda ON)
    endif()
  elseif(nvcc AND NOT DEFINED ENV{CUDACXX})
    set(without_cuda_because
        "${nvcc} does not compile with ${CMAKE_CXX_COMPILER}: name another C++ compiler in CUDAHOSTCXX")
  else()
    set(without_cuda_because
        "no CUDA compiler was found: put nvcc on PATH, or name it in CUDACXX")
  endif()
endif()
if(NEGATIVE_COSINE_CUDA STREQUAL "ON" AND NOT with_cuda)
  message(FATAL_ERROR "NEGATIVE_COSINE_CUDA=1 asks for CUDA kernels, and ${without_cuda_because}")
endif()

if(NOT with_cuda)
  set(devices "the CPU only: ${without_cuda_because}")
  return()
endif()

choose_architectures(architectures because)
list(JOIN architectures "," architecture_names)
set(devices "the CPU and CUDA ${CUDAToolkit_VERSION}, architectures ${architecture_names}${because}")

find_shared_memory("${architectures}" least_shared_bytes most_shared_bytes)

function(set_cuda_options target)
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${architectures}"
                        CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON
                        CUDA_RUNTIME_LIBRARY Static)
  target_include_directories(${target} PUBLIC csrc)
  # --fmad=false: as -ffp-contract=off in core.cmake.
  target_compile_options(${target} PRIVATE --fmad=false -Xcompiler=-Wall,-Wextra)
  target_compile_definitions(${target} PRIVATE
                             NEGATIVE_COSINE_LEAST_SHARED_BYTES=${least_shared_bytes}
                             NEGATIVE_COSINE_MOST_SHARED_BYTES=${most_shared_bytes})
  # The drivers of CUDA 13 all read device code so packed.
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 13.0)
    target_compile_options(${target} PRIVATE --compress-mode=size)
  endif()
endfunction()

include(${CMAKE_CURRENT_LIST_DIR}/cuda_kernels.cmake)
add_library(cuda_core STATIC ${cuda_sources})
set_cuda_options(cuda_core)
target_compile_definitions(cuda_core PRIVATE
                           NEGATIVE_COSINE_CUDA_ARCHITECTURES="${architecture_names}")

# The kernels of warpgroups are for one device alone, and a build for others has none.
if(architectures MATCHES "(^|;)90" AND CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.0)
  target_compile_definitions(cuda_core PRIVATE NEGATIVE_COSINE_WARPGROUPS)
  set(with_warpgroups ON)
endif()

function(add_kernel_objects target source definition)
  if(target MATCHES "^warpgroups" AND NOT with_warpgroups)
    return()
  endif()
  add_library(cuda_${target} OBJECT ${source})
  set_cuda_options(cuda_${target})
  if(target MATCHES "^warpgroups")
    set_target_properties(cuda_${target} PROPERTIES CUDA_ARCHITECTURES 90a-real)
  endif()
  target_compile_definitions(cuda_${target} PRIVATE ${definition})
  target_sources(cuda_core PRIVATE $<TARGET_OBJECTS:cuda_${target}>)
endfunction()
for_each_cuda_kernel(add_kernel_objects)

# The kernels have a CUDA runtime of their own, that of the toolkit which compiled them,
# and no other library sees it. TensorFlow exports the same functions as calls into
# whatever libcudart it finds: who links `cuda_core` names TensorFlow after it.
target_link_libraries(cuda_core PUBLIC CUDA::cudart_static)
target_link_options(cuda_core INTERFACE "LINKER:--exclude-libs,libcudart_static.a")
