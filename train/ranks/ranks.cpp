#include "train/ranks/ranks.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/base/error.h"

namespace toroid::train {
namespace {

constexpr int64_t kLongestText = int64_t{1} << 30;

}  // namespace

void first_rank_alone(World& world, Device& device, Communicator& all, const std::string& what,
                      const std::function<void()>& work) {
  if (world.size() == 1) return work();
  std::optional<Error> own;
  if (world.rank() == 0) {
    try {
      work();
    } catch (const Error& error) {
      own = error;
    }
  }
  const double mine = own ? static_cast<double>(own->code()) : 0;
  const int code = static_cast<int>(exchange(device, all, std::span(&mine, 1), what)[0]);
  if (own) throw Error(*own);
  if (code != 0) throw Error(static_cast<ExitCode>(code), "");
}

std::vector<std::string> exchange(Device& device, Communicator& all, const std::string& text,
                                  const std::string& what) {
  const int ranks = all.place().size;
  const CollectiveLabel label{what, "transfer", Phase::setup};
  const auto gather = [&](DType type, int64_t elements, std::span<const std::byte> bytes) {
    const Array own = device.array(type, {elements}, "transfer");
    device.write(own.tensor, bytes);
    const Array gathered = all.all_gather({own.tensor, {}}, label);
    std::vector<std::byte> out(static_cast<size_t>(gathered.tensor.bytes()));
    device.read(gathered.tensor, out);
    return out;
  };
  const auto length = static_cast<int64_t>(text.size());
  std::vector<int64_t> lengths(static_cast<size_t>(ranks));
  const auto words = gather(DType::i64, 1, std::as_bytes(std::span(&length, 1)));
  std::memcpy(lengths.data(), words.data(), words.size());
  for (size_t r = 0; r < lengths.size(); ++r) {
    if (lengths[r] >= 0 && lengths[r] <= kLongestText) continue;
    throw PeerError("rank " + std::to_string(r) + " sends " + std::to_string(lengths[r]) + " bytes of " +
                    what + ", but at most " + std::to_string(kLongestText) + " are taken");
  }
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::vector<std::string> out(static_cast<size_t>(ranks));
  if (longest == 0) return out;
  std::string padded = text;
  padded.resize(static_cast<size_t>(longest));
  const auto bytes = gather(DType::u8, longest, std::as_bytes(std::span(padded)));
  for (size_t r = 0; r < out.size(); ++r) {
    const auto* from = reinterpret_cast<const char*>(bytes.data()) + r * static_cast<size_t>(longest);
    out[r].assign(from, static_cast<size_t>(lengths[r]));
  }
  return out;
}

std::vector<double> exchange(Device& device, Communicator& all, std::span<const double> numbers,
                             const std::string& what) {
  if (all.place().size == 1) return {numbers.begin(), numbers.end()};
  const Array own = device.array(DType::f64, {static_cast<int64_t>(numbers.size())}, "transfer");
  device.write(own.tensor, std::as_bytes(numbers));
  const Array gathered = all.all_gather({own.tensor, {}}, {what, "transfer", Phase::setup});
  std::vector<double> out(static_cast<size_t>(gathered.tensor.elements()));
  device.read(gathered.tensor, std::as_writable_bytes(std::span(out)));
  return out;
}

}  // namespace toroid::train
