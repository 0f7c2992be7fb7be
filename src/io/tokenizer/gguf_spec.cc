#include "io/tokenizer/gguf_spec.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "base/fail.h"
#include "io/tokenizer/utf8.h"
#include "io/tokenizer/word_splitter.h"
#include "io/untrusted.h"

namespace molt {
namespace {

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kPre = "tokenizer.ggml.pre";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTokenTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kWholeJson = "tokenizer.huggingface.json";

constexpr std::size_t kMostTokens = std::size_t{1} << 22;  // ids index tables; the largest vocabularies have 2^18

/// Kinds of tokens, as llama.cpp numbers them.
enum TokenType : std::int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

constexpr std::string_view kContractionsOfAnyCase = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";

/// A way of splitting text before BPE: patterns, applied one within the pieces of the other, and what goes with them.
struct PreTokenizer {
  std::vector<std::string> patterns;
  bool nfc = false;
  bool ignore_merges = false;
};

struct NamedPreTokenizer {
  std::string_view name;
  PreTokenizer (*make)();
};

PreTokenizer gpt2() {
  return {{std::string(kGpt2Pattern)}};
}

PreTokenizer neox() {
  return {{std::string(kGpt2Pattern)}, true};
}

PreTokenizer falcon() {
  return {{R"([\p{P}\$\+<=>\^~\|`]+)", std::string(kGpt2Pattern), "[0-9][0-9][0-9]"}};
}

PreTokenizer unnamed() {
  return {{R"([\p{P}\$\+<=>\^~\|]+)", std::string(kGpt2Pattern), R"(\p{N}+)", "[0-9][0-9][0-9]"}};
}

PreTokenizer starcoder() {
  return {{R"(\p{N})", std::string(kGpt2Pattern)}};
}

/// Words with the character before them, up to `digits` digits, line ends with what precedes them.
PreTokenizer modern(std::string_view digits, bool ignore_merges) {
  return {{fmt::format(R"({}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                       kContractionsOfAnyCase, digits)},
          false,
          ignore_merges};
}

PreTokenizer llama3() {
  return modern(R"(\p{N}{1,3})", true);
}

PreTokenizer qwen2() {
  return modern(R"(\p{N})", false);
}

// llama.cpp's names. It knows many more, of tokenizers that no Mamba model has.
constexpr std::array<NamedPreTokenizer, 14> kPreTokenizers = {{{"default", &unnamed},
                                                               {"gpt-2", &gpt2},
                                                               {"phi-2", &gpt2},
                                                               {"jais", &gpt2},
                                                               {"mpt", &neox},
                                                               {"olmo", &neox},
                                                               {"falcon", &falcon},
                                                               {"starcoder", &starcoder},
                                                               {"smollm", &starcoder},
                                                               {"llama-bpe", &llama3},
                                                               {"llama3", &llama3},
                                                               {"falcon3", &llama3},
                                                               {"qwen2", &qwen2},
                                                               {"stablelm2", &qwen2}}};

std::string pre_name(const GgufFile& file) {
  return get_string(file.values, kPre, "default", file.name);
}

const NamedPreTokenizer* find_pre_tokenizer(const GgufFile& file) {
  const std::string name = pre_name(file);
  const auto* it =
      std::find_if(kPreTokenizers.begin(), kPreTokenizers.end(), [&](const auto& known) { return known.name == name; });
  return it == kPreTokenizers.end() ? nullptr : it;
}

/// A string of the vocabulary: whatever reads it counts on UTF-8.
std::string checked(std::string_view text, const GgufFile& file, const char* key, std::size_t index) {
  if (utf8::scan(text).valid < text.size()) {
    fail("{}: {}[{}], {}, is not valid UTF-8", file.name, key, index, quote(text));
  }
  return std::string(text);
}

void read_tokens(const GgufFile& file, TokenizerSpec& spec) {
  const std::vector<std::string_view> tokens = file.texts(kTokens);
  const std::vector<std::int64_t> types = file.integers(kTokenTypes);
  if (tokens.empty() || tokens.size() > kMostTokens) {
    fail("{}: {} holds {} tokens; molt reads 1 to {}", file.name, kTokens, tokens.size(), kMostTokens);
  }
  if (!types.empty() && types.size() != tokens.size()) {
    fail("{}: {} has {} entries for {} tokens", file.name, kTokenTypes, types.size(), tokens.size());
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::int64_t type = types.empty() ? kNormal : types[i];
    if (type == kUnused) continue;  // fills the rows of the embedding that stand for no token
    std::string text = checked(tokens[i], file, kTokens, i);
    const auto id = static_cast<TokenId>(i);
    if (type == kControl || type == kUnknown || type == kUserDefined) {
      if (text.empty()) fail("{}: {}[{}] is an added token without text", file.name, kTokens, i);
      const bool special = type != kUserDefined;
      spec.added.push_back({.id = id, .content = std::move(text), .special = special, .normalized = !special});
    } else {
      spec.vocab.emplace_back(std::move(text), id);
    }
  }
}

void read_merges(const GgufFile& file, TokenizerSpec& spec) {
  const std::vector<std::string_view> merges = file.texts(kMerges);
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string text = checked(merges[i], file, kMerges, i);
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      fail("{}: {}[{}], {}, is no merge: two tokens with one space between them are wanted", file.name, kMerges, i,
           quote(text));
    }
    spec.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
}

}  // namespace

std::string unreadable_tokenizer(const GgufFile& file) {
  if (file.values.contains(kWholeJson)) return "";
  const std::string model = get_string(file.values, kModel, "none", file.name);
  if (model == "none" || model == "no_vocab") return "holds no tokenizer";
  if (model != "gpt2") {
    const std::string kind = model == "llama" ? "a SentencePiece tokenizer" : "a tokenizer";
    return fmt::format("holds {} ({} {}), of which molt reads only \"gpt2\", byte-level BPE", kind, kModel,
                       quote(model));
  }
  if (find_pre_tokenizer(file) == nullptr) {
    std::vector<std::string_view> names;
    for (const NamedPreTokenizer& known : kPreTokenizers) names.push_back(known.name);
    return fmt::format("holds a tokenizer with {} {}, which molt does not know (it knows {})", kPre,
                       quote(pre_name(file)), fmt::join(names, ", "));
  }
  return "";
}

TokenizerSpec read_gguf_tokenizer(const GgufFile& file) {
  if (const std::string reason = unreadable_tokenizer(file); !reason.empty()) fail("{}: {}", file.name, reason);
  if (file.values.contains(kWholeJson)) {
    return read_tokenizer_spec(get_string(file.values, kWholeJson, required, file.name),
                               fmt::format("{} ({})", file.name, kWholeJson));
  }
  TokenizerSpec spec;
  read_tokens(file, spec);
  read_merges(file, spec);
  const PreTokenizer pre = find_pre_tokenizer(file)->make();
  spec.nfc = pre.nfc;
  spec.ignore_merges = pre.ignore_merges;
  if (pre.patterns.size() == 1 && pre.patterns[0] == kGpt2Pattern) return spec;  // ByteLevel splits so by itself
  spec.use_regex = false;
  for (const std::string& pattern : pre.patterns) {
    spec.splits.push_back({.pattern = pattern, .where = fmt::format("{}: {}", file.name, kPre)});
  }
  return spec;
}

}  // namespace molt
