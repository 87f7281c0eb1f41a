// From words to ids. It only remembers; what is in it never changes what comes out.
#pragma once

#include <xxhash.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace toroid {

class WordCache {
 public:
  static constexpr size_t kLongestWord = 128;  // longer ones rarely come again

  WordCache() { clear(); }

  static uint64_t hash(std::string_view word) { return XXH3_64bits(word.data(), word.size()); }

  // True where the word is known; `ids` is valid until the next add.
  bool find(std::string_view word, uint64_t hash, std::span<const int32_t>& ids) const {
    for (size_t at = hash & mask_;; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.ids == 0) return false;
      if (slot.hash == hash && slot.length == word.size() &&
          std::memcmp(keys_.data() + slot.key, word.data(), word.size()) == 0) {
        ids = {ids_.data() + slot.first, slot.ids};
        return true;
      }
    }
  }

  // Forgets everything first where the bounds are reached. `ids` is not empty.
  void add(std::string_view word, uint64_t hash, std::span<const int32_t> ids) {
    if (used_ >= kWords || keys_.size() > kKeyBytes) clear();
    if (2 * (used_ + 1) > slots_.size()) grow();
    const Slot slot{hash, static_cast<uint32_t>(keys_.size()), static_cast<uint32_t>(ids_.size()),
                    static_cast<uint16_t>(word.size()), static_cast<uint16_t>(ids.size())};
    keys_.insert(keys_.end(), word.begin(), word.end());
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    place(slot);
    ++used_;
  }

 private:
  static constexpr size_t kWords = size_t{1} << 20;
  static constexpr size_t kKeyBytes = size_t{32} << 20;

  struct Slot {
    uint64_t hash = 0;
    uint32_t key = 0, first = 0;
    uint16_t length = 0, ids = 0;  // ids 0: free
  };

  void clear() {
    slots_.assign(4096, {});
    mask_ = slots_.size() - 1;
    keys_.clear();
    ids_.clear();
    used_ = 0;
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    for (const Slot& slot : old) {
      if (slot.ids != 0) place(slot);
    }
  }

  void place(const Slot& slot) {
    size_t at = slot.hash & mask_;
    while (slots_[at].ids != 0) at = (at + 1) & mask_;
    slots_[at] = slot;
  }

  std::vector<Slot> slots_;
  size_t mask_ = 0, used_ = 0;
  std::vector<char> keys_;
  std::vector<int32_t> ids_;
};

}  // namespace toroid
