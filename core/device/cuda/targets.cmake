# Built where there is a toolkit (cmake/ToroidFeatures.cmake). A library of its own, so that who does not link it does not
# wait for nvcc; one of core's, since it uses core's.
include(${CMAKE_CURRENT_LIST_DIR}/sources.cmake)

# Kernels take none of the options of C++ files. Products and sums are fused where a kernel says so, and nowhere else.
add_library(toroid_cuda_kernels STATIC ${toroid_cuda_kernels})
target_include_directories(toroid_cuda_kernels PRIVATE ${CMAKE_SOURCE_DIR})
target_compile_options(toroid_cuda_kernels PRIVATE
  -fmad=false --expt-relaxed-constexpr -Xptxas=-warn-spills,--warning-as-error
  "SHELL:-Xcompiler -Wall,-Wextra,-Wshadow,-Wno-psabi,-fvisibility=hidden,-fvisibility-inlines-hidden"
  $<$<BOOL:${TOROID_WERROR}>:-Werror=all-warnings>)

set(toroid_cudnn ${CMAKE_CURRENT_LIST_DIR}/without_cudnn.cpp)
if(TOROID_CUDNN_BUILT)
  set(toroid_cudnn ${toroid_cudnn_sources} ${CMAKE_CURRENT_LIST_DIR}/cudnn_loader.cpp)
endif()
toroid_library(toroid_cuda SOURCES ${toroid_cuda_sources} ${toroid_cudnn} ${CMAKE_CURRENT_LIST_DIR}/cublas_loader.cpp
               PUBLIC toroid_core PRIVATE toroid_cuda_kernels ${CMAKE_DL_LIBS})
target_include_directories(toroid_cuda SYSTEM PUBLIC ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
if(TOROID_CUDNN_BUILT)
  target_include_directories(toroid_cuda SYSTEM PUBLIC ${TOROID_CUDNN_INCLUDE})
endif()
