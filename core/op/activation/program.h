// An activation as a list of steps. Its template is called once, at compile time, with numbers that write
// down what is done to them; a device then takes the steps one after the other with what it has for vectors,
// in functions that are compiled for its instruction set, as a template of this folder cannot be.
#pragma once

#include <array>
#include <cstdint>

#include "core/op/activation/arithmetic.h"

namespace toroid::op::activation {

// The operations of arithmetic.h.
enum class Operation : uint8_t {
  add,
  subtract,
  multiply,
  divide,
  multiply_add,
  absolute,
  clamp,
  where_negative,
  where_positive,
  exp_cubic,
  exp_square,
  scaled_normal_tail,
};

// What a step reads: the argument z (place 0), the result of step i (place i + 1) or a constant.
struct Operand {
  int place = -1;
  double constant = 0;
  constexpr bool is_constant() const { return place < 0; }
};

struct Step {
  Operation operation = Operation::add;
  std::array<Operand, 3> operands;
};

struct Program {
  std::array<Step, 32> steps;
  int size = 0;
  Operand value, slope;  // f(z) and f'(z)
};

// A number that writes its operations to a program. Constants are of no program.
class Traced {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): a constant among numbers is written as it is
  constexpr Traced(double constant) : operand_{-1, constant} {}
  constexpr Traced(Program& program, int place) : program_(&program), operand_{place, 0} {}

  // One of the three is not a constant.
  static constexpr Traced record(Operation operation, Traced a, Traced b = 0, Traced c = 0) {
    Program& program = *(a.program_ != nullptr   ? a.program_
                         : b.program_ != nullptr ? b.program_
                                                 : c.program_);
    program.steps.at(static_cast<size_t>(program.size)) = {operation, {a.operand_, b.operand_, c.operand_}};
    return {program, ++program.size};
  }
  constexpr Operand operand() const { return operand_; }

 private:
  Program* program_ = nullptr;
  Operand operand_;
};

constexpr Traced operator+(Traced a, Traced b) {
  return Traced::record(Operation::add, a, b);
}
constexpr Traced operator-(Traced a, Traced b) {
  return Traced::record(Operation::subtract, a, b);
}
constexpr Traced operator*(Traced a, Traced b) {
  return Traced::record(Operation::multiply, a, b);
}
constexpr Traced operator/(Traced a, Traced b) {
  return Traced::record(Operation::divide, a, b);
}
constexpr Traced multiply_add(Traced x, Traced y, Traced z) {
  return Traced::record(Operation::multiply_add, x, y, z);
}
constexpr Traced absolute(Traced x) {
  return Traced::record(Operation::absolute, x);
}
constexpr Traced clamp(Traced x, double limit) {
  return Traced::record(Operation::clamp, x, limit);
}
constexpr Traced where_negative(Traced x, Traced a, Traced b) {
  return Traced::record(Operation::where_negative, x, a, b);
}
constexpr Traced where_positive(Traced x, Traced a, Traced b) {
  return Traced::record(Operation::where_positive, x, a, b);
}
constexpr Traced exp_cubic(Traced x, double a, double b) {
  return Traced::record(Operation::exp_cubic, x, a, b);
}
constexpr Traced exp_square(Traced x, double a) {
  return Traced::record(Operation::exp_square, x, a);
}
constexpr Traced scaled_normal_tail(Traced t) {
  return Traced::record(Operation::scaled_normal_tail, t);
}

template <class A>
constexpr Program record() {
  Program program;
  const Point<Traced> out = A::at(Traced(program, 0));
  program.value = out.value.operand();
  program.slope = out.slope.operand();
  return program;
}

// Of the activation A, a struct of this folder.
template <class A>
inline constexpr Program program = record<A>();

}  // namespace toroid::op::activation
