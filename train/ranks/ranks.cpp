#include "train/ranks/ranks.h"

#include <optional>
#include <span>

#include "core/base/error.h"

namespace toroid::train {

void first_rank_alone(World& world, const std::string& what, const std::function<void()>& work) {
  if (world.size() == 1) return work();
  std::optional<Error> own;
  if (world.rank() == 0) {
    try {
      work();
    } catch (const Error& error) {
      own = error;
    }
  }
  const double mine = own ? static_cast<double>(own->code()) : 0;
  const int code = static_cast<int>(world.exchange().numbers(std::span(&mine, 1), what)[0]);
  if (own) throw Error(*own);
  if (code != 0) throw Error(static_cast<ExitCode>(code), "");
}

}  // namespace toroid::train
