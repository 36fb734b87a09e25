# The sources of csrc/cuda, and the kernels once for each element type, so that they
# compile side by side. For nvcc (cuda.cmake) and for the emulator (tests/cuda/emulation).
set(cuda_folder ${CMAKE_CURRENT_LIST_DIR}/../csrc/cuda)
file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${cuda_folder}/*.cu)
list(FILTER cuda_sources EXCLUDE REGEX "/kernels\\.cu$")
set(cuda_rows_elements float double Float16 BFloat16)
set(cuda_tiles_elements ${cuda_rows_elements} Tf32)
set(cuda_warpgroups_elements Float16 BFloat16)

# Calls `add_objects(target source definition)` for each of them.
macro(for_each_cuda_kernel add_objects)
  foreach(kind rows tiles warpgroups)
    foreach(element ${cuda_${kind}_elements})
      string(TOLOWER ${kind}_${element} target)
      cmake_language(CALL ${add_objects} ${target} ${cuda_folder}/${kind}/kernels.cu
                     NEGATIVE_COSINE_ELEMENT=${element})
    endforeach()
  endforeach()
endmacro()
