#include "parallel/comm/side_channel/token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <cerrno>

#include "core/base/error.h"
#include "parallel/comm/side_channel/bytes.h"

namespace toroid {
namespace {

Code code_of(const Token& token, std::string_view role, const Exchange& exchange, std::string_view text) {
  std::string message("toroid side channel 1 ");
  message.append(role).push_back('\0');
  append(message, exchange.host);
  message.append(view(exchange.server)).append(view(exchange.client));
  append(message, exchange.group);
  message.append(text);
  Code code{};
  unsigned int bytes = 0;
  const unsigned char* const made =
      ::HMAC(::EVP_sha256(), token.data(), static_cast<int>(token.size()),
             reinterpret_cast<const unsigned char*>(message.data()), message.size(), code.data(), &bytes);
  if (made == nullptr || bytes != code.size()) throw SystemError("libcrypto makes no HMAC-SHA-256");
  return code;
}

}  // namespace

std::array<unsigned char, 32> random_bytes() {
  std::array<unsigned char, 32> bytes{};
  ssize_t got = 0;
  do {
    got = ::getrandom(bytes.data(), bytes.size(), 0);
  } while (got < 0 && errno == EINTR);
  // So few come at once or not at all.
  if (got != static_cast<ssize_t>(bytes.size())) throw SystemError("the kernel gives no random bytes", errno);
  return bytes;
}

Code code_of_question(const Token& token, const Exchange& exchange) {
  return code_of(token, "ask", exchange, "");
}

Code code_of_answer(const Token& token, const Exchange& exchange, std::string_view board) {
  return code_of(token, "tell", exchange, board);
}

bool same(const Code& code, std::string_view bytes) {
  return bytes.size() == code.size() && ::CRYPTO_memcmp(code.data(), bytes.data(), code.size()) == 0;
}

}  // namespace toroid
