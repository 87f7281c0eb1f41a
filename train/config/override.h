// --set path=value, by reflection.
#pragma once

#include <string>

#include "train/config/load.h"

namespace google::protobuf {
class Message;
}

namespace toroid::config {

// Applies one override to `root` and marks what it set in `origins`. Forms:
//   model.layers=4            a number, true or false, a name of an enum, or a string without quotes
//   optim.schedule.linear.peak=1e-3   sets the arm too, in place of the one that was set
//   mesh.torus[1]=4           an entry; [n] of n entries adds one; mesh.torus+=4 adds one as well
//   data.source[web].weight=2 the entry whose name or key is "web"
//   mesh.torus=[4, 4]         a list, in place of all entries
//   optim.ema={ decay: 0.99 } a message, in place of all of it
// UserError says what is wrong with it, with a suggestion for a name that nearly fits.
void apply_override(const std::string& text, google::protobuf::Message& root, Origins& origins);

}  // namespace toroid::config
