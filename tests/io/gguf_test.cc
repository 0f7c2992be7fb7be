// The GGUF reader: what it finds in good files, exactly, and what it says of bad ones.
#include "io/gguf.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/io/test_files.h"
#include "tests/support/gguf_writer.h"

namespace molt {
namespace {

using testing_support::GgufWriter;

const std::string kFixtures = MOLT_SOURCE_DIR "/tests/fixtures/gguf/";

/// The file that these bytes are. They outlive it.
GgufFile read(const std::string& content) {
  const ExactBytes bytes(content);
  return read_gguf(bytes.bytes(), bytes.owner(), "test.gguf");
}

GgufFile read(const GgufWriter& writer) {
  return read(writer.bytes());
}

std::vector<float> floats_of(const GgufTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(element_count(tensor.shape)));
  if (tensor.type->dequantize != nullptr) {
    dequantize(*tensor.type, tensor.data, values.data());
  } else {
    const Tensor view(*tensor.type->dtype, tensor.shape, const_cast<std::byte*>(tensor.data.data()), nullptr);
    const Tensor f32 = view.to_f32();
    std::copy_n(f32.as<float>(), values.size(), values.begin());
  }
  return values;
}

TEST(Gguf, EveryTypeHasExactlyTheValuesOfTheReference) {
  const GgufFile file = read_gguf(kFixtures + "blocks.gguf");
  std::size_t compared = 0;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.ends_with(".golden")) continue;
    SCOPED_TRACE(name);
    EXPECT_EQ(tensor.type->name, name);
    const std::vector<float> values = floats_of(tensor);
    EXPECT_EQ(values, floats_of(file.tensors.at(name + ".golden")));
    EXPECT_GT(std::count_if(values.begin(), values.end(), [](float v) { return v != 0; }),
              element_count(tensor.shape) / 2);
    ++compared;
  }
  EXPECT_EQ(compared, 15U);  // all types but f64
}

TEST(Gguf, ReadsKeysOfAllTypes) {
  GgufWriter writer;
  const auto number = [&](const char* key, std::uint32_t type, std::uint64_t value, int bytes) {
    writer.key(key, GgufWriter::integer(type, 4) + GgufWriter::integer(value, bytes));
  };
  number("u8", 0, 200, 1);
  number("i8", 1, 0xff, 1);
  number("u16", 2, 60000, 2);
  number("i16", 3, 0xfffe, 2);
  number("i32", 5, 0xfffffffd, 4);
  number("u64", 10, std::uint64_t{1} << 40, 8);
  number("i64", 11, ~std::uint64_t{3}, 8);
  number("f64", 12, std::bit_cast<std::uint64_t>(0.1), 8);
  writer.u32("u32", 7).f32("f32", 0.5F).boolean("yes", true).string("general.architecture", "mamba");
  writer.strings("words", {"a", "", "ccc"}).i32s("numbers", {-1, 2});
  const GgufFile file = read(writer);
  EXPECT_EQ(file.values, (Json{{"u8", 200},
                               {"i8", -1},
                               {"u16", 60000},
                               {"i16", -2},
                               {"i32", -3},
                               {"u64", std::int64_t{1} << 40},
                               {"i64", -4},
                               {"f64", 0.1},
                               {"u32", 7},
                               {"f32", 0.5},
                               {"yes", true},
                               {"general.architecture", "mamba"}}));
  EXPECT_EQ(file.architecture(), "mamba");
  EXPECT_EQ(file.texts("words"), (std::vector<std::string_view>{"a", "", "ccc"}));
  EXPECT_EQ(file.integers("numbers"), (std::vector<std::int64_t>{-1, 2}));
  EXPECT_TRUE(file.integers("none").empty());
  EXPECT_ERROR(file.texts("numbers"), "numbers is of another type; an array of strings is needed");
  EXPECT_ERROR(file.texts("none"), "none is missing");
  EXPECT_ERROR(file.integers("words"), "words must be an array of integers");
}

TEST(Gguf, TensorsHaveTheirExtentsReversedAndTheirBytesInPlace) {
  const std::string four(16, 'x');
  for (const std::uint32_t version : {2U, 3U}) {
    const GgufFile file =
        read(GgufWriter(version).tensor("a", 0, {2, 2}, four).tensor("b", 8, {1, 32}, std::string(34, 'y')));
    EXPECT_EQ(file.tensors.at("a").shape, (Shape{2, 2}));
    EXPECT_EQ(file.tensors.at("b").shape, (Shape{1, 32}));
    EXPECT_EQ(file.tensors.at("b").type->name, "q8_0");
    EXPECT_EQ(file.tensors.at("b").data.size(), 34U);
    EXPECT_EQ(std::to_integer<char>(file.tensors.at("b").data[33]), 'y');
  }
}

TEST(Gguf, HeedsTheAlignment) {
  GgufWriter writer;
  const std::string content = writer.u32("general.alignment", 64).tensor("a", 0, {1}, "abcd").bytes();
  EXPECT_ERROR(read(content), "tensor `a` claims 4 bytes at byte 128 of 128");
  const GgufFile file = read(content + std::string(32, 'z'));
  EXPECT_EQ(std::to_integer<char>(file.tensors.at("a").data[0]), 'z');
  EXPECT_ERROR(read(GgufWriter().u32("general.alignment", 0)), "general.alignment is 0");
  EXPECT_ERROR(read(GgufWriter().u32("general.alignment", 48)), "a power of two");
}

TEST(Gguf, SaysWhatIsWrong) {
  const std::string four(16, 'x');
  const auto at = [](std::uint64_t value) { return GgufWriter::integer(value, 8); };
  EXPECT_ERROR(read(std::string("")), "does not begin with");
  EXPECT_ERROR(read("GGUF\x03"), "the version needs 4 bytes at byte 4 of 5");
  EXPECT_ERROR(read(GgufWriter(1)), "GGUF version 1; molt reads versions 2 and 3");
  EXPECT_ERROR(read(GgufWriter(3U << 24)), "big-endian");
  EXPECT_ERROR(read(GgufWriter().u32("k", 1).u32("k", 2)), "key `k` is there twice");
  EXPECT_ERROR(read(GgufWriter().u32("k", 1).strings("k", {})), "key `k` is there twice");
  EXPECT_ERROR(read(GgufWriter().key("k", GgufWriter::integer(13, 4))), "key `k` has the unknown value type 13");
  EXPECT_ERROR(read(GgufWriter().key("k", GgufWriter::integer(8, 4) + at(~std::uint64_t{0}))), "truncated or corrupt");
  EXPECT_ERROR(read(GgufWriter().key(
                   "k", GgufWriter::integer(9, 4) + GgufWriter::integer(10, 4) + at(~std::uint64_t{0} / 8 + 2))),
               "claims 2305843009213693953 elements");
  EXPECT_ERROR(read(GgufWriter().u32("split.count", 3)), "one of 3 parts of a model; join them first");
  EXPECT_ERROR(read(GgufWriter().tensor("t", 0, {4}, four).tensor("t", 0, {4}, four)), "tensor `t` is there twice");
  EXPECT_ERROR(read(GgufWriter().tensor("t", 16, {256}, four)), "tensor `t` has the type iq2_xxs; molt reads f32, f16");
  EXPECT_ERROR(read(GgufWriter().tensor("t", 99, {256}, four)), "has the type number 99");
  EXPECT_ERROR(read(GgufWriter().tensor("t", 12, {2, 128}, four)), "rows of 128 elements; its blocks take 256");
  EXPECT_ERROR(read(GgufWriter().tensor("t", 0, {1, 1, 1, 1, 1}, four)), "has 5 extents; at most 4");
  EXPECT_ERROR(read(GgufWriter().tensor("t", 0, {-1}, four)), "impossible shape [-1]");
  EXPECT_ERROR(read(GgufWriter().tensor("t", 0, {std::int64_t{1} << 40, std::int64_t{1} << 40}, four)),
               "impossible shape");
  EXPECT_ERROR(read(GgufWriter().tensor("t", 0, {64}, four)), "tensor `t` claims 256 bytes");
  EXPECT_ERROR(read(GgufWriter().tensor("t", 0, {4}, four).tensor_at("u", 0, {4}, 0, four)),
               "tensor `u` begins at byte 0 of the data, where the one before it ends at 32");
  std::string nested = GgufWriter::integer(9, 4);
  for (int i = 0; i < 8; ++i) nested += GgufWriter::integer(9, 4) + at(1);
  EXPECT_ERROR(read(GgufWriter().key("k", nested)), "nested too deep");
  EXPECT_ERROR(read(GgufWriter()).architecture(), "\"general.architecture\"");
}

// Whatever is cut off or changed, the reader throws or gives tensors that lie within the bytes.
RC_GTEST_PROP(Gguf, BrokenFilesNeverLeadAstray, ()) {
  std::string content = GgufWriter()
                            .string("general.architecture", "mamba")
                            .strings("words", {"one", "two"})
                            .tensor("a", 0, {2, 2}, std::string(16, 'x'))
                            .tensor("b", 2, {32}, std::string(18, 'y'))
                            .bytes();
  const auto end = *rc::gen::inRange<std::size_t>(0, content.size() + 1);
  content.resize(end);
  const auto changes = *rc::gen::inRange(0, 4);
  for (int i = 0; i < changes && !content.empty(); ++i) {
    content[*rc::gen::inRange<std::size_t>(0, content.size())] = *rc::gen::arbitrary<char>();
  }
  const ExactBytes bytes(content);
  try {
    const GgufFile file = read_gguf(bytes.bytes(), bytes.owner(), "test.gguf");
    for (const auto& [name, tensor] : file.tensors) floats_of(tensor);
    for (const auto& [key, array] : file.arrays) {
      if (array.type == GgufType::text) file.texts(key);
    }
  } catch (const Error&) {
  }
}

}  // namespace
}  // namespace molt
