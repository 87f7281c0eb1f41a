// Calls that change names in the file system, made by anything in a test program: killed at one of them, or
// answered as by a file system that knows no links.
#pragma once

#include <functional>

namespace toroid::test {

// Runs `work` in a child of this process and kills it at the `call`'th of link, rename, unlink, mkdir and
// fsync, counted from 1. How it ended, as waitpid says; exit code 1 where `work` threw.
int killed_at(int call, const std::function<void()>& work);

// Whether link(2) works, or fails as where there are no links.
void allow_links(bool allow);

}  // namespace toroid::test
