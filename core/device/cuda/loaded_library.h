// A library that is found when it is first called and not linked: a program that is built with CUDA then
// starts on machines that have none of it, and says what is missing when a GPU is asked for.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

namespace toroid::cuda {

// Stays loaded until the process ends, since what was made by its functions may be destroyed last.
class LoadedLibrary {
 public:
  // Looks for the file `name` ("libcublasLt.so.13") where the system's loader looks, then in lib64 and lib of
  // the folders that environment variables name (CUDA_PATH), then of /usr/local/cuda. Warns of a file that is
  // there and does not load.
  LoadedLibrary(const std::string& name, std::initializer_list<const char*> variables);

  // nullptr where it has no such function, or is not found.
  void* function(const char* name) const;

 private:
  void* handle_ = nullptr;
};

// Calls the library's own function of that name, which is declared as kFunction; `missing` where there is
// none. A function is looked for once, so it belongs to one library.
template <auto* kFunction, class Result, class... Given>
Result forward(const LoadedLibrary& library, const char* name, Result missing, Given... given) {
  static const auto function = reinterpret_cast<decltype(kFunction)>(library.function(name));
  return function == nullptr ? missing : function(std::move(given)...);
}

}  // namespace toroid::cuda
