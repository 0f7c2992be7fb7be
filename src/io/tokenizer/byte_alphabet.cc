#include "io/tokenizer/byte_alphabet.h"

#include <array>

#include "io/tokenizer/utf8.h"

namespace molt {
namespace {

struct Alphabet {
  std::array<std::uint32_t, 256> code_points{};
  std::array<int, 256 + 68> bytes{};  // by code point; -1 for none

  Alphabet() {
    bytes.fill(-1);
    std::uint32_t next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      code_points[byte] = printable ? byte : next++;
      bytes[code_points[byte]] = static_cast<int>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

std::string spell_byte(unsigned char byte) {
  std::string spelling;
  utf8::append(alphabet().code_points[byte], spelling);
  return spelling;
}

std::optional<std::string> unspell(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const auto [code_point, length] = utf8::decode(token, at);
    const int byte = code_point < alphabet().bytes.size() ? alphabet().bytes[code_point] : -1;
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += length;
  }
  return bytes;
}

}  // namespace molt
