// The memory bandwidth that kernels are held against.
#pragma once

#include <cstdint>

namespace toroid {

// Bytes per second of a[i] = b[i] + s c[i] on `threads` threads, counted as in STREAM (McCalpin): three times
// the array, best of `repeats` passes. Arrays of `bytes` each should exceed the last cache by far.
double measure_triad(int threads, int64_t bytes = int64_t{128} << 20, int repeats = 5);

}  // namespace toroid
