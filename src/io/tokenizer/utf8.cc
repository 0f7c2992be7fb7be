#include "io/tokenizer/utf8.h"

#include <cstring>

namespace molt::utf8 {
namespace {

// What stands at the start of `bytes`: a character of `length` bytes, an ill-formed part of `length` bytes, or the
// beginning of a character that `bytes` ends within.
struct Part {
  enum Kind { kCharacter, kIllFormed, kUnfinished } kind;
  std::size_t length;
};

Part first_part(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {Part::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Part::kIllFormed, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Part::kUnfinished, i};
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) return {Part::kIllFormed, i};
  }
  return {Part::kCharacter, length};
}

}  // namespace

std::size_t ascii_prefix(std::string_view text, std::size_t at) {
  const std::size_t start = at;
  std::uint64_t word;
  for (; at + sizeof word <= text.size(); at += sizeof word) {
    std::memcpy(&word, text.data() + at, sizeof word);
    if (word & 0x8080808080808080u) break;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at - start;
}

Scan scan(std::string_view text) {
  bool ascii = true;
  std::size_t at = 0;
  while ((at += ascii_prefix(text, at)) < text.size()) {
    const Part part = first_part(text.substr(at));
    if (part.kind != Part::kCharacter) break;
    ascii = false;
    at += part.length;
  }
  return {at, ascii};
}

void append(std::uint32_t c, std::string& out) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

std::size_t append_lossy(std::string_view bytes, bool final, std::string& out) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::size_t valid = scan(bytes.substr(at)).valid;
    out.append(bytes, at, valid);
    at += valid;
    if (at == bytes.size()) break;
    const Part part = first_part(bytes.substr(at));
    if (part.kind == Part::kUnfinished && !final) break;
    append(0xFFFD, out);
    at += part.length;
  }
  return at;
}

}  // namespace molt::utf8
