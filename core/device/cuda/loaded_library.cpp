#include "core/device/cuda/loaded_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "core/base/log.h"
#include "core/base/text.h"

namespace toroid::cuda {

LoadedLibrary::LoadedLibrary(const std::string& name, std::initializer_list<const char*> variables) {
  std::vector<std::string> folders;
  for (const char* const variable : variables) {
    if (const char* const folder = std::getenv(variable); folder != nullptr && *folder != '\0')
      folders.emplace_back(folder);
  }
  folders.emplace_back("/usr/local/cuda");
  std::vector<std::string> places{name};
  for (const std::string& folder : folders) {
    for (const char* const inside : {"/lib64/", "/lib/"}) places.push_back(folder + inside + name);
  }
  for (const std::string& place : places) {
    handle_ = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) return;
    // Of a file that is not there the loader says just that; what another needs and has not is told by its
    // name.
    const char* const said = ::dlerror();
    const std::string why = said == nullptr ? "" : said;
    if (why.rfind(place + ": cannot open shared object file: No such file", 0) != 0)
      log::warn("{} does not load: {}", place, printable(why));
  }
}

void* LoadedLibrary::function(const char* name) const {
  return handle_ == nullptr ? nullptr : ::dlsym(handle_, name);
}

}  // namespace toroid::cuda
