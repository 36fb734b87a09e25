# The library `shared_core`: the core of all other libraries, so that the device's code is
# on the disk and in memory once. Its visible symbols are those of core/export.h alone.
#
# The others find it beside themselves: by RPATH, which goes before LD_LIBRARY_PATH, as the
# newer RUNPATH does not.
file(CONFIGURE OUTPUT shared_core.cc CONTENT "")  # CMake asks for a source
add_library(shared_core SHARED ${CMAKE_CURRENT_BINARY_DIR}/shared_core.cc)
set(cores core)
if(with_cuda)
  list(APPEND cores cuda_core)
endif()
set_target_properties(shared_core PROPERTIES OUTPUT_NAME negative_cosine_core
                      LINKER_LANGUAGE CXX
                      LIBRARY_OUTPUT_DIRECTORY ${NEGATIVE_COSINE_OUTPUT_DIR})
target_link_libraries(shared_core PRIVATE
                      -Wl,--whole-archive ${cores} -Wl,--no-whole-archive)
target_include_directories(shared_core PUBLIC csrc)

# For a library in the package's folder.
function(link_shared_core target)
  target_link_libraries(${target} PRIVATE shared_core)
  set_target_properties(${target} PROPERTIES BUILD_WITH_INSTALL_RPATH ON
                        INSTALL_RPATH "$ORIGIN")
  target_link_options(${target} PRIVATE LINKER:--disable-new-dtags)
endfunction()
