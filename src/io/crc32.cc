#include "io/crc32.h"

#include <array>

namespace molt {
namespace {

constexpr std::uint32_t kPolynomial = 0xedb88320U;

/// The remainders of all bytes, followed by 0 .. 3 bytes of zeros: four bytes are taken a step.
constexpr std::array<std::array<std::uint32_t, 256>, 4> remainders() {
  std::array<std::array<std::uint32_t, 256>, 4> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1U) != 0 ? kPolynomial : 0);
    table[0][byte] = value;
  }
  for (std::size_t k = 1; k < 4; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t value = table[k - 1][byte];
      table[k][byte] = (value >> 8) ^ table[0][value & 0xffU];
    }
  }
  return table;
}

constexpr auto kRemainders = remainders();

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before) {
  std::uint32_t value = ~before;
  for (; bytes.size() >= 4; bytes = bytes.subspan(4)) {
    for (std::size_t i = 0; i < 4; ++i) value ^= std::to_integer<std::uint32_t>(bytes[i]) << (8 * i);
    value = kRemainders[3][value & 0xffU] ^ kRemainders[2][value >> 8 & 0xffU] ^ kRemainders[1][value >> 16 & 0xffU] ^
            kRemainders[0][value >> 24];
  }
  for (const std::byte byte : bytes) {
    value = (value >> 8) ^ kRemainders[0][(value ^ std::to_integer<std::uint32_t>(byte)) & 0xffU];
  }
  return ~value;
}

}  // namespace molt
