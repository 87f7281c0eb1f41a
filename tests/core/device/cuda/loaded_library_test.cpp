#include "core/device/cuda/loaded_library.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
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
  EXPECT_NE(math.function("ldexp"), nullptr);
  EXPECT_EQ(math.function("no_such_function"), nullptr);
}

TEST(LoadedLibrary, is_found_in_folders_that_variables_name) {
  for (const char* const inside : {"lib64", "lib"}) {
    const TemporaryDirectory folder;
    const std::string name = "libtoroid_test_only.so";
    ASSERT_EQ(::setenv(kVariable, folder.path().c_str(), 1), 0);
    EXPECT_EQ(LoadedLibrary(name, {kVariable}).function("ldexp"), nullptr);
    std::filesystem::create_directory(folder.path() / inside);
    std::filesystem::copy_file(some_library(), folder.path() / inside / name);
    EXPECT_NE(LoadedLibrary(name, {"TOROID_TEST_NOT_SET", kVariable}).function("ldexp"), nullptr) << inside;
    EXPECT_EQ(LoadedLibrary(name, {}).function("ldexp"), nullptr);
    ::unsetenv(kVariable);
  }
}

TEST(LoadedLibrary, a_file_that_does_not_load_is_told_of_and_one_that_is_not_there_is_not) {
  const TemporaryDirectory folder;
  ASSERT_EQ(::setenv(kVariable, folder.path().c_str(), 1), 0);
  const auto said = [] {
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(LoadedLibrary("libtoroid_test_broken.so", {kVariable}).function("ldexp"), nullptr);
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(said(), "");
  std::filesystem::create_directory(folder.path() / "lib");
  const std::string file = folder.path() / "lib" / "libtoroid_test_broken.so";
  std::ofstream(file) << "no library";
  EXPECT_NE(said().find(file + " does not load: " + file + ": file too short"), std::string::npos) << said();
  ::unsetenv(kVariable);
}

TEST(LoadedLibrary, functions_are_called_by_name_or_answer_with_what_is_told) {
  const LoadedLibrary math("libm.so.6", {}), missing("libtoroid_test_missing.so", {});
  EXPECT_EQ(missing.function("ldexp"), nullptr);
  EXPECT_EQ(forward<static_cast<double (*)(double, int)>(&::ldexp)>(math, "ldexp", -1.0, 3.0, 2), 12.0);
  EXPECT_EQ(forward<static_cast<int (*)(int)>(&::abs)>(missing, "abs", -1, -3), -1);
}

}  // namespace
}  // namespace toroid::cuda
