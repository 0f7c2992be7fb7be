#include "io/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <iterator>

#include "base/fail.h"
#include "io/tokenizer/utf8.h"

namespace molt {
namespace {

constexpr std::size_t kShortWord = 64;  // up to here the plain way is faster than the heap
constexpr std::size_t kKeptWord = 1 << 16;
constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15u;

std::uint64_t pack(TokenId left, TokenId right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

template <class Word>
Word load(std::string_view bytes, std::size_t at) {
  Word word;
  std::memcpy(&word, bytes.data() + at, sizeof word);
  return word;
}

}  // namespace

BpeCache::BpeCache() : entries_(kEntries) {}

Bpe::Bpe(const std::array<TokenId, 256>& byte_ids, const std::vector<Merge>& merges) : byte_ids_(byte_ids) {
  const std::size_t size = std::bit_ceil(2 * merges.size() + 2);
  shift_ = 64 - static_cast<unsigned>(std::countr_zero(size));
  slots_.resize(size);
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    const std::uint64_t pair = pack(merge.left, merge.right);
    std::size_t at = pair * kGolden >> shift_;
    while (slots_[at].rank != kNoRank && slots_[at].pair != pair) at = (at + 1) & (size - 1);
    slots_[at] = {pair, static_cast<std::uint32_t>(rank), merge.merged};
  }
  for (unsigned byte = 0; byte < 256; ++byte) has_gaps_ = has_gaps_ || (byte_ids_[byte] < 0 && utf8::may_hold(byte));
}

const Bpe::Slot& Bpe::find(TokenId left, TokenId right) const {
  const std::uint64_t pair = pack(left, right);
  std::size_t at = pair * kGolden >> shift_;
  while (slots_[at].rank != kNoRank && slots_[at].pair != pair) at = (at + 1) & (slots_.size() - 1);
  return slots_[at];
}

void Bpe::encode(std::string_view word, BpeCache& cache, std::vector<TokenId>& out) const {
  if (has_gaps_) {
    cache.spelled_.clear();
    std::ranges::copy_if(word, std::back_inserter(cache.spelled_),
                         [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)] >= 0; });
    word = cache.spelled_;
    if (word.empty()) return;
  }
  const std::size_t length = word.size();
  if (length == 1 && whole_words_.empty()) {
    out.push_back(byte_ids_[static_cast<unsigned char>(word[0])]);
    return;
  }
  if (length > BpeCache::kMaxBytes) return encode_uncached(word, cache, out);

  // With the length, two words that may overlap tell all bytes.
  BpeCache::Key key;
  if (length >= 8) {
    key = {load<std::uint64_t>(word, 0), load<std::uint64_t>(word, length - 8)};
  } else if (length >= 4) {
    key = {load<std::uint32_t>(word, 0), load<std::uint32_t>(word, length - 4)};
  } else {
    key.low = static_cast<unsigned char>(word[0]) | static_cast<unsigned char>(word[length / 2]) << 8 |
              static_cast<unsigned char>(word[length - 1]) << 16;
  }
  std::uint64_t hash = (key.low ^ length) * kGolden;
  hash = (std::rotl(hash, 32) ^ key.high) * kGolden;
  BpeCache::Entry& entry = cache.entries_[hash >> (64 - std::countr_zero(BpeCache::kEntries))];
  if (entry.bytes == length && entry.key == key) {
    out.insert(out.end(), entry.ids.begin(), entry.ids.begin() + entry.count);
    return;
  }
  const std::size_t before = out.size();
  encode_uncached(word, cache, out);
  const std::size_t count = out.size() - before;
  if (count > BpeCache::kMaxIds) return;
  entry.key = key;
  entry.bytes = static_cast<std::uint8_t>(length);
  entry.count = static_cast<std::uint8_t>(count);
  std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(before), count, entry.ids.begin());
}

void Bpe::encode_uncached(std::string_view word, BpeCache& cache, std::vector<TokenId>& out) const {
  if (!whole_words_.empty()) {
    if (const auto it = whole_words_.find(word); it != whole_words_.end()) {
      out.push_back(it->second);
      return;
    }
  }
  word.size() <= kShortWord ? encode_short(word, cache, out) : encode_long(word, cache, out);
}

void Bpe::encode_short(std::string_view word, BpeCache& cache, std::vector<TokenId>& out) const {
  auto& ids = cache.ids_;
  auto& ranks = cache.ranks_;  // ranks[i]: of the merge of ids[i] and ids[i + 1]
  ids.clear();
  for (const char byte : word) ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  std::size_t count = ids.size();
  ranks.assign(count, kNoRank);
  for (std::size_t i = 0; i + 1 < count; ++i) ranks[i] = find(ids[i], ids[i + 1]).rank;
  while (true) {
    const auto best = std::min_element(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(count));
    if (*best == kNoRank) break;
    const auto at = static_cast<std::size_t>(best - ranks.begin());
    ids[at] = find(ids[at], ids[at + 1]).merged;
    --count;
    std::copy(ids.begin() + static_cast<std::ptrdiff_t>(at) + 2, ids.begin() + static_cast<std::ptrdiff_t>(count) + 1,
              ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    std::copy(best + 2, ranks.begin() + static_cast<std::ptrdiff_t>(count) + 1, best + 1);
    ranks[at] = at + 1 < count ? find(ids[at], ids[at + 1]).rank : kNoRank;
    if (at > 0) ranks[at - 1] = find(ids[at - 1], ids[at]).rank;
  }
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
}

void Bpe::encode_long(std::string_view word, BpeCache& cache, std::vector<TokenId>& out) const {
  constexpr std::uint32_t kNone = UINT32_MAX;
  if (word.size() >= kNone) fail("cannot encode a word of {} bytes: the limit is {}", word.size(), kNone - 1);
  const auto length = static_cast<std::uint32_t>(word.size());
  auto& symbols = cache.symbols_;
  symbols.resize(length);
  for (std::uint32_t i = 0; i < length; ++i) {
    symbols[i] = {byte_ids_[static_cast<unsigned char>(word[i])], i == 0 ? kNone : i - 1,
                  i + 1 == length ? kNone : i + 1};
  }
  // Candidates (rank, position), lowest first. One may be stale, because a neighbour has merged since: then the pair at
  // its position has another rank, or nothing stands there any more (id -1).
  auto& heap = cache.heap_;
  heap.clear();
  const auto pair_at = [&](std::uint32_t at) -> const Slot& {
    return find(symbols[at].id, symbols[symbols[at].next].id);
  };
  const auto candidate = [](std::uint32_t rank, std::uint32_t at) {
    return static_cast<std::uint64_t>(rank) << 32 | at;
  };
  for (std::uint32_t i = 0; i + 1 < length; ++i) {
    if (const auto rank = pair_at(i).rank; rank != kNoRank) heap.push_back(candidate(rank, i));
  }
  std::ranges::make_heap(heap, std::greater{});
  const auto propose = [&](std::uint32_t at) {
    if (const auto rank = pair_at(at).rank; rank != kNoRank) {
      heap.push_back(candidate(rank, at));
      std::ranges::push_heap(heap, std::greater{});
    }
  };
  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater{});
    const auto rank = static_cast<std::uint32_t>(heap.back() >> 32);
    const auto at = static_cast<std::uint32_t>(heap.back());
    heap.pop_back();
    BpeCache::Symbol& symbol = symbols[at];
    if (symbol.id < 0 || symbol.next == kNone) continue;
    const Slot& merge = pair_at(at);
    if (merge.rank != rank) continue;
    BpeCache::Symbol& right = symbols[symbol.next];
    symbol.id = merge.merged;
    symbol.next = right.next;
    right.id = -1;
    if (symbol.next != kNone) {
      symbols[symbol.next].previous = at;
      propose(at);
    }
    if (symbol.previous != kNone) propose(symbol.previous);
  }
  for (std::uint32_t at = 0; at != kNone; at = symbols[at].next) out.push_back(symbols[at].id);
  if (length > kKeptWord) {  // one huge word must not hold its working space for ever
    std::vector<BpeCache::Symbol>().swap(symbols);
    std::vector<std::uint64_t>().swap(heap);
  }
}

}  // namespace molt
