// Fnv1a: a quick 64-bit hash that is the same on every machine (Fowler, Noll & Vo). No defence against an adversary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace molt {

class Fnv1a {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) hash_ = (hash_ ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3U;
  }

  /// A text and its end, so that "ab", "c" is another sequence than "a", "bc".
  void add(std::string_view text) {
    add(std::as_bytes(std::span(text)));
    hash_ *= 0x100000001b3U;
  }

  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325U;
};

}  // namespace molt
