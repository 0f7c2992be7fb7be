#include "molt/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <unordered_map>

#include "base/fail.h"
#include "base/mmap_file.h"
#include "io/gguf.h"
#include "io/tokenizer/added_tokens.h"
#include "io/tokenizer/bpe.h"
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/gguf_spec.h"
#include "io/tokenizer/nfc.h"
#include "io/tokenizer/pattern.h"
#include "io/tokenizer/spec.h"
#include "io/tokenizer/utf8.h"
#include "io/tokenizer/vocabulary.h"
#include "io/tokenizer/word_splitter.h"

namespace molt {
namespace {

// What one call of encode works in.
struct Scratch {
  BpeCache cache;
  std::string normalized;
  std::string prefixed;
  std::vector<Piece> pieces;
  std::vector<Piece> inner_pieces;
  PatternSpace space;
  std::vector<std::vector<Span>> spans;  // for each Split
};

// Scratches that wait for their next use, as many as there were encoding threads at once.
class ScratchPool {
 public:
  std::unique_ptr<Scratch> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Scratch>();
    auto scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }
  void give_back(std::unique_ptr<Scratch> scratch) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> free_;
};

std::vector<Pattern> compile(const std::vector<SplitSpec>& splits) {
  return {splits.begin(), splits.end()};
}

}  // namespace

struct Tokenizer::Impl {
  Impl(const TokenizerSpec& spec, std::string_view where)
      : vocabulary(spec, where),
        bpe(vocabulary.byte_ids(), vocabulary.resolve_merges(spec.merges)),
        splits(compile(spec.splits)),
        normalize(spec.nfc),
        add_prefix_space(spec.add_prefix_space),
        use_regex(spec.use_regex) {
    if (spec.ignore_merges) bpe.set_whole_words(vocabulary.whole_words());
    std::string buffer;
    for (const bool special : {true, false}) {  // of two that are found alike, special ones come first
      for (const AddedToken& token : spec.added) {
        if (token.special != special) continue;
        if (!token.normalized) {
          added.add(token, token.content);
        } else {
          added_normalized.add(token, spec.nfc ? nfc(token.content, buffer) : token.content);
        }
      }
    }
  }

  void encode(std::string_view text, Scratch& scratch, std::vector<TokenId>& out) const {
    scratch.pieces.clear();
    added.split(text, scratch.pieces);
    for (const Piece& piece : scratch.pieces) {
      if (piece.id >= 0) {
        out.push_back(piece.id);
        continue;
      }
      scratch.inner_pieces.clear();
      added_normalized.split(normalize ? nfc(piece.text, scratch.normalized) : piece.text, scratch.inner_pieces);
      for (const Piece& inner : scratch.inner_pieces) {
        inner.id >= 0 ? out.push_back(inner.id) : encode_text(inner.text, 0, scratch, out);
      }
    }
  }

  // Applies the Splits from `step` on, then ByteLevel.
  void encode_text(std::string_view text, std::size_t step, Scratch& scratch, std::vector<TokenId>& out) const {
    if (step == splits.size()) return encode_words(text, scratch, out);
    scratch.spans.resize(splits.size());
    splits[step].split(text, scratch.space, scratch.spans[step]);
    for (const Span span : scratch.spans[step]) {
      encode_text(text.substr(span.begin, span.end - span.begin), step + 1, scratch, out);
    }
  }

  void encode_words(std::string_view text, Scratch& scratch, std::vector<TokenId>& out) const {
    if (add_prefix_space && !text.starts_with(' ')) {
      scratch.prefixed.assign(1, ' ').append(text);
      text = scratch.prefixed;
    }
    if (!use_regex) return bpe.encode(text, scratch.cache, out);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = gpt2_word_end(text, at);
      bpe.encode(text.substr(at, end - at), scratch.cache, out);
      at = end;
    }
  }

  Vocabulary vocabulary;
  Bpe bpe;
  AddedTokens added;             // found in the text as given
  AddedTokens added_normalized;  // found in the normalized text
  std::vector<Pattern> splits;
  bool normalize;
  bool add_prefix_space;
  bool use_regex;
  mutable ScratchPool scratches;
};

Tokenizer Tokenizer::load(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const std::string file = fs::is_directory(path, ignored) ? (fs::path(path) / "tokenizer.json").string() : path;
  if (file != path && !fs::exists(file, ignored)) {
    fail("{}: the folder has no tokenizer.json; name the file of its tokenizer instead", path);
  }
  const auto mapped = MmapFile::open(file);
  const auto bytes = mapped->bytes();
  if (is_gguf(bytes)) {
    return Tokenizer(std::make_shared<const Impl>(read_gguf_tokenizer(read_gguf(bytes, mapped, file)), file));
  }
  return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file);
}

Tokenizer Tokenizer::parse(std::string_view json, std::string_view where) {
  return Tokenizer(std::make_shared<const Impl>(read_tokenizer_spec(json, where), where));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
  if (const std::size_t valid = utf8::scan(text).valid; valid < text.size()) {
    fail("the text is not valid UTF-8: byte 0x{:02X} at offset {}; convert it to UTF-8 first",
         static_cast<unsigned char>(text[valid]), valid);
  }
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4 + 1);
  auto scratch = impl_->scratches.take();
  impl_->encode(text, *scratch, ids);
  impl_->scratches.give_back(std::move(scratch));
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    const std::string_view token = token_bytes(id);
    if (!skip_special || !is_special(id)) bytes += token;
  }
  if (utf8::scan(bytes).valid == bytes.size()) return bytes;
  std::string text;
  utf8::append_lossy(bytes, true, text);
  return text;
}

std::int64_t Tokenizer::vocab_size() const {
  return impl_->vocabulary.size();
}

std::optional<TokenId> Tokenizer::id_of(std::string_view token) const {
  return impl_->vocabulary.id_of(token);
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  return impl_->vocabulary.bytes(id);
}

bool Tokenizer::is_special(TokenId id) const {
  return std::ranges::binary_search(impl_->vocabulary.special_ids(), id);
}

const std::vector<TokenId>& Tokenizer::special_ids() const {
  return impl_->vocabulary.special_ids();
}

std::string StreamDecoder::push(TokenId id) {
  const std::string_view bytes = tokenizer_.token_bytes(id);
  std::string text;
  if (skip_special_ && tokenizer_.is_special(id)) return text;
  pending_ += bytes;
  pending_.erase(0, utf8::append_lossy(pending_, false, text));
  return text;
}

std::string StreamDecoder::flush() {
  std::string text;
  utf8::append_lossy(pending_, true, text);
  pending_.clear();
  return text;
}

}  // namespace molt
