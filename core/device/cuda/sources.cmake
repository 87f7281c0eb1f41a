# The device and its kernels: compiled for GPUs in this folder, and for the host in tests/core/device/cuda.
set(toroid_cuda_kernels activation.cu attention.cu attention_grad.cu attention_grad_keys.cu
                        attention_grad_queries.cu checksum.cu elementwise.cu embedding.cu loss.cu mirror.cu norm.cu product_tree.cu
                        reduce.cu rope.cu update.cu wire.cu)
set(toroid_cuda_sources attention_choice.cpp calls.cpp cublas.cpp cuda_device.cpp cuda_kernels.cpp gpus.cpp loaded_library.cpp
                        loss_products.cpp matmul.cpp pinned.cpp sdpa_rule.cpp symmetric_product.cpp timeline.cpp)
# What calls cuDNN; without_cudnn.cpp takes its place.
set(toroid_cudnn_sources cudnn_graph.cpp sdpa.cpp sdpa_graph.cpp)
# What knows the workspaces of calls: all that a build without a toolkit has.
set(toroid_cuda_sizes ${toroid_cuda_kernels} attention_choice.cpp cuda_kernels.cpp loss_products.cpp matmul.cpp sdpa_rule.cpp
                      symmetric_product.cpp without_cudnn.cpp without_toolkit/libraries.cpp)
list(TRANSFORM toroid_cudnn_sources PREPEND ${CMAKE_SOURCE_DIR}/core/device/cuda/)
list(TRANSFORM toroid_cuda_kernels PREPEND ${CMAKE_SOURCE_DIR}/core/device/cuda/)
list(TRANSFORM toroid_cuda_sources PREPEND ${CMAKE_SOURCE_DIR}/core/device/cuda/)
list(TRANSFORM toroid_cuda_sizes PREPEND ${CMAKE_SOURCE_DIR}/core/device/cuda/)
