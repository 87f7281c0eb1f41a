// The next token's cross entropy: softmax over the vocabulary, in blocks of tokens (core/op/loss.h).
#pragma once

#include <memory>

#include "core/model/objective.h"

namespace toroid {

std::unique_ptr<Objective> make_next_token();

}  // namespace toroid
