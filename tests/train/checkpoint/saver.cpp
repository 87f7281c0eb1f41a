// checkpoint_saver RUN STEP: saves the small run of fixture.h at STEP, keeping one. Exits with the program's
// codes.
#include <cstdlib>
#include <iostream>

#include "core/base/error.h"
#include "tests/train/checkpoint/fixture.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    const toroid::SmallRun saved(std::atoll(argv[2]));
    toroid::save_checkpoint(argv[1], saved.state, saved.slices, 1);
  } catch (const toroid::Error& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(error.code());
  }
  return 0;
}
