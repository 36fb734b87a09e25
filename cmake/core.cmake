# The library `core`: the passes on the CPU. For the package, tests/cpu/instructions and
# tests/cpu/sanitizers.
set(csrc ${CMAKE_CURRENT_LIST_DIR}/../csrc)

set(warnings -Wall -Wextra)

file(GLOB_RECURSE core_sources CONFIGURE_DEPENDS ${csrc}/core/*.cc ${csrc}/cpu/*.cc)
list(FILTER core_sources EXCLUDE REGEX "/kernels\\.cc$")
add_library(core STATIC ${core_sources})
target_include_directories(core PUBLIC ${csrc})
target_compile_options(core PRIVATE ${warnings})
find_package(Threads REQUIRED)
target_link_libraries(core PUBLIC Threads::Threads)

# The kernels once for each instruction set, chosen at run time (csrc/cpu/device/cpu_features.cc).
# -ffp-contract=off: fused multiply-adds only where the source names them, so that equal
# expressions give equal bits.
set(kernel_options ${warnings} ${kernel_optimization} -ffp-contract=off
                   -fno-math-errno -fno-trapping-math)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC warns of a change in how vectors are passed between functions, where ours are all
  # inlined, and of its own intrinsics' deliberately undefined operands (GCC bug 105593).
  list(APPEND kernel_options -Wno-psabi -Wno-uninitialized -Wno-maybe-uninitialized)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    # Small arrays are cleared by vectors: GCC's choice, `rep stos`, starts slowly.
    list(APPEND kernel_options
         -mmemset-strategy=unrolled_loop:1024:noalign,libcall:-1:noalign)
  endif()
endif()

set(instruction_sets portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND instruction_sets avx2 avx512)
  set(options_of_avx2 -mavx2 -mfma -mf16c)
  set(options_of_avx512 ${options_of_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl
                        -mprefer-vector-width=512)
endif()

# Adds `source` to `target`, once for each instruction set.
function(add_for_each_instruction_set target source)
  foreach(set ${instruction_sets})
    add_library(${target}_${set} OBJECT ${source})
    target_include_directories(${target}_${set} PRIVATE ${csrc})
    target_compile_definitions(${target}_${set} PRIVATE NEGATIVE_COSINE_ISA=${set})
    target_compile_options(${target}_${set} PRIVATE ${kernel_options} ${options_of_${set}})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_${set}>)
  endforeach()
endfunction()
add_for_each_instruction_set(core ${csrc}/cpu/kernels.cc)
