// The ways in which a library computes a product, for measurements alone: a program never chooses among them.
#pragma once

#include <optional>

namespace toroid {

class ProductWays {
 public:
  // Of the product that was issued last, how many there are: at least one.
  virtual int count() const = 0;
  // Products that are issued from now on are computed in their `nth` way; nothing: as ever. SystemError where
  // one has not as many, or the library does not carry it out after all.
  virtual void take(std::optional<int> nth) = 0;
  // They are not computed at all: what is timed is all that an operator does beside its products.
  virtual void leave_out(bool out) = 0;

 protected:
  ~ProductWays() = default;
};

}  // namespace toroid
