// What the verbs about checkpoints share: how faults, steps and tensors are written for programs, and times
// for people.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "train/checkpoint/inventory.h"

namespace toroid::launch {

nlohmann::ordered_json fault_json(const Fault& fault);
nlohmann::ordered_json faults_json(const std::vector<Fault>& faults);
// A number, or null where it is not finite, which JSON has no word for.
nlohmann::ordered_json number_json(double value);

// "2026-11-30 16:28:05", of this machine's time zone; "" for 0.
std::string time_text(int64_t seconds_since_1970);

std::string shape_text(const std::vector<int64_t>& shape);  // "[256, 64]"

// As many as help where files are read side by side.
int reading_threads();

// Standard output, as it is.
void print_line(const std::string& text);

}  // namespace toroid::launch
