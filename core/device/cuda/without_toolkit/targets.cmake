# The registry of the CUDA device's kernels, for what they need and do not compute: a build without a toolkit predicts the
# memory of GPUs. The host's compiler reads the sources, and no kernel is instantiated. All of them are one source, since
# most of their time is their headers'.
include(${CMAKE_CURRENT_LIST_DIR}/../sources.cmake)
set(toroid_cuda_sizes_source ${CMAKE_CURRENT_BINARY_DIR}/toroid_cuda_sizes.cpp)
list(TRANSFORM toroid_cuda_sizes REPLACE "(.+)" "#include \"\\1\"\n" OUTPUT_VARIABLE toroid_cuda_includes)
list(JOIN toroid_cuda_includes "" toroid_cuda_includes)
file(CONFIGURE OUTPUT ${toroid_cuda_sizes_source} CONTENT "${toroid_cuda_includes}" @ONLY)

toroid_library(toroid_cuda_sizes SOURCES ${toroid_cuda_sizes_source} PUBLIC toroid_core)
target_include_directories(toroid_cuda_sizes BEFORE PRIVATE ${CMAKE_CURRENT_LIST_DIR})
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(toroid_cuda_sizes PRIVATE -Wno-subobject-linkage)
endif()
toroid_quick_to_build(toroid_cuda_sizes)
