#include "core/device/cuda/loaded_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

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
  }
}

void* LoadedLibrary::function(const char* name) const {
  return handle_ == nullptr ? nullptr : ::dlsym(handle_, name);
}

}  // namespace toroid::cuda
