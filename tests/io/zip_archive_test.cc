#include "io/zip_archive.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/io/torch_files.h"

namespace molt {
namespace {

std::map<std::string, std::string> read(const std::string& archive) {
  const ExactBytes exact(archive);
  std::map<std::string, std::string> contents;
  for (const auto& [name, data] : read_zip(exact.bytes(), "a.zip")) {
    contents[name] = std::string(reinterpret_cast<const char*>(data.data()), data.size());
  }
  return contents;
}

ZipBuilder two() {
  return ZipBuilder().add("a/x", "hello").add("a/y", std::string(100, 'y'));
}
const std::map<std::string, std::string> kTwo = {{"a/x", "hello"}, {"a/y", std::string(100, 'y')}};

std::string with(ZipBuilder::Entry entry) {
  return two().add(std::move(entry)).build();
}

TEST(ZipArchive, ReadsStoredEntries) {
  EXPECT_EQ(read(two().build()), kTwo);
  EXPECT_TRUE(read(ZipBuilder().build()).empty());
}

TEST(ZipArchive, ReadsZip64) {
  ZipBuilder builder = two();
  builder.zip64 = true;
  EXPECT_EQ(read(builder.build()), kTwo);
}

TEST(ZipArchive, ReadsCommentsAndSizesThatFollow) {
  ZipBuilder builder = two();
  builder.comment = "a comment that quotes PK\x05\x06 an end record";
  builder.add({.name = "z", .data = "later", .flags = 8});
  auto expected = kTwo;
  expected["z"] = "later";
  EXPECT_EQ(read(builder.build()), expected);
}

TEST(ZipArchive, RefusesWhatItCannotRead) {
  EXPECT_ERROR(read(""), "a.zip: the zip archive has no end record");
  EXPECT_ERROR(read("PK\x03\x04 and no more"), "truncated or corrupt; fetch it again");
  EXPECT_ERROR(read(with({.name = "z", .data = "deflated", .method = 8})), "entry `z` is compressed (method 8)");
  EXPECT_ERROR(read(with({.name = "z", .data = "secret", .flags = 1})), "`z` is encrypted");
  EXPECT_ERROR(read(with({.name = "a/x", .data = "again"})), "two entries named `a/x`");
  EXPECT_ERROR(read(with({.name = "z", .data = "x", .local_name = "q"})), "`z` differs from the directory");
  EXPECT_ERROR(read(with({.name = "z", .data = "x", .size_error = 1})), "truncated");
  EXPECT_ERROR(read(with({.name = "z", .data = "x", .size_error = -1})), "`z` differs from the directory");
  EXPECT_ERROR(read(with({.name = "z", .data = "x", .offset_error = 1})), "truncated");
  EXPECT_ERROR(read(with({.name = "z", .data = "x", .offset_error = 1'000'000})), "truncated");
}

TEST(ZipArchive, RefusesAbsurdCounts) {
  for (const bool zip64 : {false, true}) {
    ZipBuilder builder = two();
    builder.zip64 = zip64;
    builder.count_error = 1000;
    EXPECT_ERROR(read(builder.build()), "announces 1002 entries");
    builder.count_error = -1;
    EXPECT_ERROR(read(builder.build()), "more than the 1 entries it announces");
    builder.count_error = 0;
    builder.directory_error = 3;
    EXPECT_ERROR(read(builder.build()), "truncated");
    builder.directory_error = -3;
    EXPECT_ERROR(read(builder.build()), "truncated");
  }
  ZipBuilder builder = two();
  builder.zip64 = true;
  builder.count_error = std::int64_t{1} << 62;
  EXPECT_ERROR(read(builder.build()), "announces");
}

TEST(ZipArchive, RefusesOverlappingEntries) {
  // One entry whose data are a whole other entry, as a decompression bomb nests them.
  const std::string inner = ZipBuilder().add("in", "data", 1).build().substr(0, 30 + 2 + 4);
  ZipBuilder builder;
  builder.add({.name = "out", .data = inner});
  // The second directory entry points into the first one's data; its own local header stands elsewhere.
  builder.add({.name = "in", .data = "data", .offset_error = -static_cast<std::int64_t>(inner.size())});
  EXPECT_ERROR(read(builder.build()), "`out` and `in` overlap");
}

TEST(ZipArchive, EveryTruncationIsAnError) {
  for (const bool zip64 : {false, true}) {
    ZipBuilder builder = two();
    builder.zip64 = zip64;
    const std::string whole = builder.build();
    for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_THROW(read(whole.substr(0, size)), Error) << size;
  }
}

RC_GTEST_PROP(ZipArchiveProperty, MutatedArchivesNeverCrash, ()) {
  ZipBuilder builder = two();
  builder.zip64 = *rc::gen::arbitrary<bool>();
  std::string content = builder.build();
  const auto edits = *rc::gen::inRange(1, 6);
  for (int i = 0; i < edits; ++i) {
    content[*rc::gen::inRange<std::size_t>(0, content.size())] = *rc::gen::arbitrary<char>();
  }
  try {
    read(content);
  } catch (const Error&) {
  }
}

}  // namespace
}  // namespace molt
