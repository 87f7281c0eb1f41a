#include "parallel/comm/mpi/mpi_transport.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "core/base/error.h"

namespace toroid::mpi {
namespace {

constexpr size_t kPart = size_t{1} << 30;  // below the largest int

}  // namespace

void check(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw SystemError(std::string("MPI: ") + what + ": " +
                    std::string(text.data(), static_cast<size_t>(length)));
}

MpiTransport::MpiTransport() {
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "size");
}

Transport::Request MpiTransport::keep(Message message) {
  if (unused_.empty()) {
    unused_.push_back(static_cast<int64_t>(messages_.size()));
    messages_.emplace_back();
  }
  const int64_t id = unused_.back();
  unused_.pop_back();
  messages_[static_cast<size_t>(id)] = std::move(message);
  return {id};
}

Transport::Request MpiTransport::send(int peer, int context, std::span<const std::byte> bytes) {
  Message message;
  size_t first = 0;
  do {
    const size_t count = std::min(kPart, bytes.size() - first);
    message.parts.emplace_back();
    check(MPI_Isend(bytes.data() + first, static_cast<int>(count), MPI_BYTE, peer, context, MPI_COMM_WORLD,
                    &message.parts.back()),
          "send");
    first += count;
  } while (first < bytes.size());
  return keep(std::move(message));
}

Transport::Request MpiTransport::receive(int peer, int context, std::span<std::byte> bytes) {
  Message message;
  message.receive = true;
  size_t first = 0;
  do {
    const size_t count = std::min(kPart, bytes.size() - first);
    message.parts.emplace_back();
    check(MPI_Irecv(bytes.data() + first, static_cast<int>(count), MPI_BYTE, peer, context, MPI_COMM_WORLD,
                    &message.parts.back()),
          "receive");
    first += count;
  } while (first < bytes.size());
  return keep(std::move(message));
}

std::optional<int64_t> MpiTransport::test(Request request) {
  Message& message = messages_[static_cast<size_t>(request.id)];
  while (!message.parts.empty()) {
    int done = 0;
    MPI_Status status;
    const int code = MPI_Test(&message.parts.front(), &done, &status);
    int kind = MPI_SUCCESS;
    if (code != MPI_SUCCESS) MPI_Error_class(code, &kind);
    if (kind == MPI_ERR_TRUNCATE) {
      message.bytes = INT64_MAX;  // larger than was to be received; how much larger, MPI does not say
      message.parts.clear();
      break;
    }
    check(code, "test");
    if (done == 0) return std::nullopt;
    if (message.receive) {
      int count = 0;
      check(MPI_Get_count(&status, MPI_BYTE, &count), "count");
      message.bytes += count;
    }
    message.parts.erase(message.parts.begin());
  }
  unused_.push_back(request.id);
  return message.bytes;
}

}  // namespace toroid::mpi
