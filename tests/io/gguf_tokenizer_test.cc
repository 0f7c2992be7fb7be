// Tokenizers rebuilt from GGUF vocabularies: equal, id for id, to the tokenizer.json that they were made from.
#include <gtest/gtest.h>

#include "io/tokenizer/gguf_spec.h"
#include "molt/tokenizer.h"
#include "tests/io/test_files.h"
#include "tests/support/gguf_model.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::add_tokenizer;
using testing_support::fixture;
using testing_support::GgufWriter;

/// The tokenizer of a file with nothing else in it.
Tokenizer tokenizer_of(const GgufWriter& file) {
  const TempFolder folder;
  return Tokenizer::load(folder.write("vocab.gguf", file.bytes()));
}

void expect_equal(const Tokenizer& a, const Tokenizer& b, const std::string& text) {
  const std::vector<TokenId> ids = b.encode(text);
  ASSERT_EQ(a.encode(text), ids);
  EXPECT_EQ(a.decode(ids), b.decode(ids));
  EXPECT_EQ(a.decode(ids, true), b.decode(ids, true));
}

TEST(GgufTokenizer, EqualsTheFileThatItWasMadeFrom) {
  const std::string json = testing_support::demo_model() + "/tokenizer.json";
  GgufWriter file;
  add_tokenizer(file, json, "olmo", 16384 + 16);
  const Tokenizer made = tokenizer_of(file);
  const Tokenizer original = Tokenizer::load(json);
  EXPECT_EQ(made.vocab_size(), original.vocab_size());
  EXPECT_EQ(made.special_ids(), original.special_ids());
  expect_equal(made, original, testing_support::read_file(testing_support::demo_model() + "/page.txt"));
  expect_equal(made, original,
               "<|endoftext|>e\xCC\x81 <|padding|>  \t\n\n ''ll 12345 \xF0\x9F\x98\x80");  // e + acute: NFC
}

TEST(GgufTokenizer, EqualsNeoXOnTheHeldOutCorpus) {
  const std::string json = testing_support::shared("tokenizer/20B_tokenizer.json");
  MOLT_NEEDS(json);
  GgufWriter file;
  add_tokenizer(file, json, "mpt", 50280);
  const Tokenizer made = tokenizer_of(file);
  const Tokenizer original = Tokenizer::load(json);
  EXPECT_EQ(made.vocab_size(), original.vocab_size());
  expect_equal(made, original, testing_support::read_file(testing_support::shared("eval/heldout.txt")));
  expect_equal(made, original,
               "def f(x):\n        return  x\n\n\n    # five     spaces<|endoftext|>");  // added runs of spaces
}

TEST(GgufTokenizer, SplitsAsItsNameSays) {
  const auto encode = [](const char* file, const std::string& text) {
    return Tokenizer::load(fixture(std::string("gguf/") + file)).encode(text);
  };
  // 257 "th", 258 " a", 259 "the", 260 " the", 261 "in", 262 " t", 263 "12", 264 " 1", 265 "123", 266 " an", 267 "
  // and".
  const std::string text = "the 1234 and";
  const auto id = [](char c) { return static_cast<TokenId>(static_cast<unsigned char>(c)) + 1; };
  EXPECT_EQ(encode("mamba.gguf", text), (std::vector<TokenId>{259, id(' '), 265, id('4'), 267}));
  EXPECT_EQ(encode("mamba2.gguf", text), (std::vector<TokenId>{259, id(' '), 265, id('4'), 267}));
  EXPECT_EQ(encode("mamba2.gguf", " 1"), (std::vector<TokenId>{264}));
  // Falcon's cuts numbers into threes, from the left.
  EXPECT_EQ(encode("mamba2.gguf", "1123"), (std::vector<TokenId>{id('1'), 265}));
  EXPECT_EQ(encode("falcon_mamba.gguf", "1123"), (std::vector<TokenId>{id('1'), 263, id('3')}));
  EXPECT_EQ(encode("mamba.gguf", "<|endoftext|>a   b"), (std::vector<TokenId>{0, id('a'), 268, id('b')}));
}

TEST(GgufTokenizer, ReadsTheWholeTokenizerJsonWhereThereIsOne) {
  const std::string json = testing_support::demo_model() + "/tokenizer.json";
  const Tokenizer made = tokenizer_of(GgufWriter()
                                          .string("tokenizer.ggml.model", "unheard-of")
                                          .string("tokenizer.huggingface.json", testing_support::read_file(json)));
  expect_equal(made, Tokenizer::load(json), "It was the best of times.");
}

TEST(GgufTokenizer, SaysWhatItCannotRead) {
  const auto file = [](const char* model, const char* pre) {
    GgufWriter out;
    out.string("tokenizer.ggml.model", model).string("tokenizer.ggml.pre", pre);
    return out;
  };
  EXPECT_ERROR(tokenizer_of(GgufWriter()), "vocab.gguf: holds no tokenizer");
  EXPECT_ERROR(tokenizer_of(file("llama", "default")),
               "holds a SentencePiece tokenizer (tokenizer.ggml.model `llama`)");
  EXPECT_ERROR(tokenizer_of(file("gpt2", "chameleon")), "tokenizer.ggml.pre `chameleon`, which molt does not know");
  EXPECT_ERROR(tokenizer_of(file("gpt2", "olmo")), "tokenizer.ggml.tokens is missing");
  EXPECT_ERROR(tokenizer_of(file("gpt2", "olmo").strings("tokenizer.ggml.tokens", {"a\xFF"})), "is not valid UTF-8");
  EXPECT_ERROR(tokenizer_of(file("gpt2", "olmo").strings("tokenizer.ggml.tokens", {"a"})),
               "tokenizer.ggml.merges is missing");
  EXPECT_ERROR(
      tokenizer_of(
          file("gpt2", "olmo").strings("tokenizer.ggml.tokens", {"a"}).strings("tokenizer.ggml.merges", {"ab"})),
      "tokenizer.ggml.merges[0], `ab`, is no merge");
  EXPECT_ERROR(
      tokenizer_of(
          file("gpt2", "olmo").strings("tokenizer.ggml.tokens", {"a"}).i32s("tokenizer.ggml.token_type", {1, 1})),
      "has 2 entries for 1 tokens");
  EXPECT_ERROR(
      tokenizer_of(file("gpt2", "olmo").strings("tokenizer.ggml.tokens", {"a"}).strings("tokenizer.ggml.merges", {})),
      "the byte 0x09 has no token");
}

}  // namespace
}  // namespace molt
