#include "launch/toroid/version.h"

namespace toroid::launch {

std::string version_text() {
  const std::string commit = TOROID_COMMIT;
  std::string text = "toroid " TOROID_VERSION;
  if (!commit.empty()) text += " (" + commit + ")";
  text += "\nbuild     " TOROID_BUILD_TYPE ", " TOROID_COMPILER;
  text += "\nfeatures  " TOROID_BUILT_WITH;
  const std::string without = TOROID_BUILT_WITHOUT;
  if (!without.empty()) text += "\nwithout   " + without;
  return text;
}

}  // namespace toroid::launch
