// Bpe: byte pair encoding of one word (Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with
// Subword Units", section 3.2), on bytes.
//
// A word starts as the ids of its bytes; the adjacent pair whose merge has the lowest rank, the leftmost first, becomes
// one id, until no pair has a merge. Short words do just that; long ones with a heap, in n log n.
// Thread-safety: immutable after building; a BpeCache belongs to one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "molt/types.h"

namespace molt {

/// left and right, next to each other, become `merged`. The rank is the place in the list of merges.
struct Merge {
  TokenId left;
  TokenId right;
  TokenId merged;
};

/// A bounded memory of how short words were encoded, and working space.
class BpeCache {
 public:
  BpeCache();

 private:
  friend class Bpe;
  static constexpr std::size_t kMaxBytes = 16;
  static constexpr std::size_t kMaxIds = 4;
  static constexpr std::size_t kEntries = std::size_t{1} << 14;
  struct Key {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Entry {
    Key key;
    std::array<TokenId, kMaxIds> ids{};
    std::uint8_t bytes = 0;  // 0: empty
    std::uint8_t count = 0;
  };
  struct Symbol {
    TokenId id;
    std::uint32_t previous;
    std::uint32_t next;
  };

  std::vector<Entry> entries_;
  std::vector<TokenId> ids_;
  std::vector<std::uint32_t> ranks_;
  std::vector<Symbol> symbols_;
  std::vector<std::uint64_t> heap_;
  std::string spelled_;
};

class Bpe {
 public:
  /// `byte_ids`: the id of each byte, -1 for those that have none: encode() leaves them out. Of two merges of one pair
  /// the later counts.
  Bpe(const std::array<TokenId, 256>& byte_ids, const std::vector<Merge>& merges);

  /// Words that are a single id whatever the merges say (`ignore_merges`). The views must outlive this object.
  void set_whole_words(std::unordered_map<std::string_view, TokenId> words) { whole_words_ = std::move(words); }

  /// Appends the ids of `word` (not empty) to `out`.
  void encode(std::string_view word, BpeCache& cache, std::vector<TokenId>& out) const;

  /// The two ways, for the tests: the same ids for every word.
  void encode_short(std::string_view word, BpeCache& cache, std::vector<TokenId>& out) const;
  void encode_long(std::string_view word, BpeCache& cache, std::vector<TokenId>& out) const;

 private:
  static constexpr std::uint32_t kNoRank = UINT32_MAX;
  struct Slot {
    std::uint64_t pair = UINT64_MAX;
    std::uint32_t rank = kNoRank;
    TokenId merged = -1;
  };

  const Slot& find(TokenId left, TokenId right) const;
  void encode_uncached(std::string_view word, BpeCache& cache, std::vector<TokenId>& out) const;

  std::array<TokenId, 256> byte_ids_;
  std::vector<Slot> slots_;  // open addressing, a power of two in length, at most half full
  unsigned shift_ = 0;
  bool has_gaps_ = false;  // some byte of UTF-8 text has no id
  std::unordered_map<std::string_view, TokenId> whole_words_;
};

}  // namespace molt
