#include "core/device/cuda/loaded_library.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/core/base/io/temporary_directory.h"

namespace toroid::cuda {
namespace {

const char* const kVariable = "TOROID_TEST_LIBRARY_FOLDER";

// The file of a library that the system's loader finds.
std::filesystem::path some_library() {
  const LoadedLibrary math("libm.so.6", {});
  Dl_info info{};
  void* const function = math.function("ldexp");
  return function != nullptr && ::dladdr(function, &info) != 0 ? info.dli_fname : "";
}

TEST(LoadedLibrary, is_found_where_the_loader_looks) {
  const LoadedLibrary math("libm.so.6", {});
  ASSERT_TRUE(math.found());
  EXPECT_NE(math.function("ldexp"), nullptr);
  EXPECT_EQ(math.function("no_such_function"), nullptr);
}

TEST(LoadedLibrary, is_found_in_folders_that_variables_name) {
  for (const char* const inside : {"lib64", "lib"}) {
    const TemporaryDirectory folder;
    const std::string name = "libtoroid_test_only.so";
    ASSERT_EQ(::setenv(kVariable, folder.path().c_str(), 1), 0);
    EXPECT_FALSE(LoadedLibrary(name, {kVariable}).found());
    std::filesystem::create_directory(folder.path() / inside);
    std::filesystem::copy_file(some_library(), folder.path() / inside / name);
    EXPECT_TRUE(LoadedLibrary(name, {"TOROID_TEST_NOT_SET", kVariable}).found()) << inside;
    EXPECT_FALSE(LoadedLibrary(name, {}).found());
    ::unsetenv(kVariable);
  }
}

TEST(LoadedLibrary, functions_are_called_by_name_or_answer_with_what_is_told) {
  const LoadedLibrary math("libm.so.6", {}), missing("libtoroid_test_missing.so", {});
  EXPECT_FALSE(missing.found());
  EXPECT_EQ(missing.function("ldexp"), nullptr);
  EXPECT_EQ(forward<static_cast<double (*)(double, int)>(&::ldexp)>(math, "ldexp", -1.0, 3.0, 2), 12.0);
  EXPECT_EQ(forward<static_cast<int (*)(int)>(&::abs)>(missing, "abs", -1, -3), -1);
}

}  // namespace
}  // namespace toroid::cuda
