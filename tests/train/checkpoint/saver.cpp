// checkpoint_saver RUN STEP [behind]: saves the small run of fixture.h at STEP, keeping one, at once or
// behind the steps of a run. Exits with the program's codes.
#include <cstdlib>
#include <iostream>
#include <thread>

#include "core/base/error.h"
#include "tests/train/checkpoint/fixture.h"
#include "train/checkpoint/save_behind.h"

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) return 2;
  try {
    const toroid::SmallRun saved(std::atoll(argv[2]));
    if (argc == 3) {
      toroid::save_checkpoint(argv[1], saved.state, saved.slices, 1);
      return 0;
    }
    toroid::Checkpoints checkpoints(argv[1], {.newest = 1});
    toroid::SaveBehind behind(checkpoints);
    behind.begin(saved.state, saved.slices, {});
    while (behind.under_way()) {
      const double told = behind.told();
      const auto end = behind.hear({&told, 1}, {});
      if (end && !end->failure.empty()) throw toroid::SystemError(end->failure);
      std::this_thread::yield();
    }
    if (!checkpoints.wait()) return static_cast<int>(toroid::ExitCode::system_error);
  } catch (const toroid::Error& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(error.code());
  }
  return 0;
}
