// What the kernels' signatures name of CUDA's runtime, for a build without its toolkit.
#pragma once

using cudaStream_t = struct CUstream_st*;
