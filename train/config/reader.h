// Reads protobuf text format that may come from anybody.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "train/config/load.h"

namespace google::protobuf {
class Message;
}

namespace toroid::config {

inline constexpr int64_t kLargestFile = 1 << 20;  // bytes
inline constexpr int kDeepest = 32;               // brackets within brackets; the messages need six

// Parses `text` into `out`, which must be empty, and says for each value on which line of `name` it stands;
// what a resolved config says that it derived ("# from train.steps") keeps that as its origin. UserError
// "name:line:column: ..." for anything that is not a valid `out`: syntax, unknown and repeated fields, wrong
// types, numbers that are not finite, strings that are not text, brackets deeper than kDeepest.
Origins read_text(std::string_view text, const std::string& name, google::protobuf::Message& out);

}  // namespace toroid::config
