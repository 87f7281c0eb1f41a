# What calls NCCL: built with it in this folder, and with a stand-in in tests/parallel/comm/nccl. The communicator itself
# is one of toroid_comm's sources, since dry runs record it on any machine.
set(toroid_nccl_sources nccl_groups.cpp nccl_handle.cpp nccl_rates.cpp nccl_transfer.cpp)
list(TRANSFORM toroid_nccl_sources PREPEND ${CMAKE_SOURCE_DIR}/parallel/comm/nccl/)
