// The secret of a job, and what is proved with it. It is made when the job starts, told to the ranks over
// MPI, held in memory alone, and never sent over a side channel.
//
// One exchange, over TCP; integers are little-endian, M is HMAC-SHA-256 under the token, `host` is the number
// of the host that serves, so that nobody's answer passes for another's:
//   the server greets  "TRDHELLO", 32 random bytes s
//   the client asks    32 random bytes c, group u32, M("ask" host s c group)
//   the server tells   length u32, M("tell" host s c group board), board (snapshot.h)
// Both random parts are in both codes: neither a question nor an answer can be used twice. What is told is
// not secret, so it is not encrypted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace toroid {

using Token = std::array<unsigned char, 32>;
using Nonce = std::array<unsigned char, 32>;
using Code = std::array<unsigned char, 32>;

// 32 bytes of the kernel's randomness; SystemError where there is none.
std::array<unsigned char, 32> random_bytes();

struct Exchange {
  uint32_t host = 0;
  Nonce server{}, client{};
  uint32_t group = 0;
};
Code code_of_question(const Token& token, const Exchange& exchange);
Code code_of_answer(const Token& token, const Exchange& exchange, std::string_view board);
// In a time that does not depend on where they differ.
bool same(const Code& code, std::string_view bytes);

struct SideWire {
  static constexpr std::string_view kGreeting = "TRDHELLO";
  static constexpr size_t kHello = kGreeting.size() + sizeof(Nonce);
  static constexpr size_t kQuestion = sizeof(Nonce) + sizeof(uint32_t) + sizeof(Code);
  static constexpr size_t kAnswerHead = sizeof(uint32_t) + sizeof(Code);
};

template <size_t kBytes>
std::string_view view(const std::array<unsigned char, kBytes>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), kBytes};
}

}  // namespace toroid
