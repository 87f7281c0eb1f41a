# Built with CUDA in this folder, and with its stand-in in tests/train/engine/cuda.
set(toroid_engine_cuda_sources cuda_maker.cpp gpu_choice.cpp gpu_report.cpp)
list(TRANSFORM toroid_engine_cuda_sources PREPEND ${CMAKE_SOURCE_DIR}/train/engine/cuda/)
