# What is compiled after this is watched by a sanitizer, where NEGATIVE_COSINE_SANITIZE
# names one: for the package (see setup.py) and for tests/cpu/sanitizers.
set(NEGATIVE_COSINE_SANITIZE "" CACHE STRING "address (with undefined), thread, or empty")

if(NEGATIVE_COSINE_SANITIZE STREQUAL "address")
  # What `null` and `object-size` find ends in AddressSanitizer's report as well; `vptr`
  # needs TensorFlow's type information, which is not for others. Checks are calls: in
  # line they take GCC three times as long to compile.
  set(sanitizer_options -fsanitize=address,undefined -fno-sanitize-recover=all
                        -fno-sanitize=null,object-size,pointer-overflow,vptr)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND sanitizer_options --param=asan-instrumentation-with-call-threshold=0)
  endif()
elseif(NEGATIVE_COSINE_SANITIZE STREQUAL "thread")
  set(sanitizer_options -fsanitize=thread)
elseif(NEGATIVE_COSINE_SANITIZE)
  message(FATAL_ERROR "NEGATIVE_COSINE_SANITIZE must be address, thread or empty, got "
                      "${NEGATIVE_COSINE_SANITIZE}")
endif()

# TensorFlow's headers have to be compiled as TensorFlow was: Abseil's containers, say,
# hold more under AddressSanitizer.
set(framework_options "")
set(kernel_optimization -O3)
if(NEGATIVE_COSINE_SANITIZE)
  set(framework_options -fno-sanitize=all)
  # Lines of source in the reports, in an acceptable time.
  set(kernel_optimization -O1)
  set(CMAKE_CXX_FLAGS_RELEASE "-O1 -g1 -fno-omit-frame-pointer")
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${sanitizer_options}>")
  add_link_options(${sanitizer_options})
endif()
