#include "io/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include "tests/io/test_files.h"

namespace molt {
namespace {

/// A file of this header and this many bytes of data.
std::string file_of(const std::string& header, std::size_t data_size, std::ptrdiff_t length_error = 0) {
  std::string file = little_endian(header.size() + static_cast<std::size_t>(length_error), 8) + header;
  for (std::size_t i = 0; i < data_size; ++i) file += static_cast<char>(i);
  return file;
}

SafetensorsFile read(const std::string& content) {
  const ExactBytes exact(content);
  return read_safetensors(exact.bytes(), exact.owner(), "m.safetensors");
}

/// Reads every byte that the tensors claim, so that a sanitizer sees whether they are there.
std::size_t touch(const std::map<std::string, Tensor>& tensors) {
  std::size_t sum = 0;
  for (const auto& [name, tensor] : tensors) {
    for (std::int64_t i = 0; i < tensor.bytes(); ++i) sum += std::to_integer<std::size_t>(tensor.data()[i]);
  }
  return sum;
}

constexpr const char* kTwo =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
    R"("b":{"dtype":"I8","shape":[3],"data_offsets":[16,19]}})";

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const SafetensorsFile file = read(file_of(kTwo, 19));
  ASSERT_EQ(file.tensors.size(), 2U);
  EXPECT_EQ(file.tensors.at("a").shape(), (Shape{2, 2}));
  EXPECT_EQ(file.tensors.at("a").dtype(), DType::f32);
  EXPECT_EQ(file.tensors.at("b").dtype(), DType::i8);
  EXPECT_EQ(file.tensors.at("b").data()[2], std::byte{18});
  EXPECT_EQ(file.metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
}

TEST(Safetensors, ReadsEveryDType) {
  const std::vector<std::pair<const char*, DType>> dtypes = {
      {"F64", DType::f64}, {"F32", DType::f32}, {"F16", DType::f16}, {"BF16", DType::bf16}, {"I64", DType::i64},
      {"I32", DType::i32}, {"I16", DType::i16}, {"I8", DType::i8},   {"U8", DType::u8},     {"BOOL", DType::boolean}};
  for (const auto& [name, dtype] : dtypes) {
    const auto bytes = static_cast<std::size_t>(size_of(dtype)) * 3;
    const auto file =
        read(file_of(fmt::format(R"({{"x":{{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}}}})", name, bytes), bytes));
    EXPECT_EQ(file.tensors.at("x").dtype(), dtype);
  }
}

TEST(Safetensors, ScalarsAndEmptyTensors) {
  const auto file = read(file_of(R"({"e":{"dtype":"F32","shape":[0,5],"data_offsets":[4,4]},)"
                                 R"("s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                                 4));
  EXPECT_EQ(file.tensors.at("s").size(), 1);
  EXPECT_EQ(file.tensors.at("e").size(), 0);
  EXPECT_TRUE(read(file_of("{}", 0)).tensors.empty());
}

TEST(Safetensors, MisalignedTensorsAreCopiedIntoPlace) {
  // Data at offset 8 + 59 of the file: odd, whatever the buffer's own alignment.
  const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  for (std::size_t pad = 0; pad < 4; ++pad) {
    std::string content = file_of(header + std::string(pad, ' '), 0);
    const float value = 1.5F;
    content.append(reinterpret_cast<const char*>(&value), 4);
    const auto file = read(content);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.tensors.at("x").data()) % 4, 0U);
    EXPECT_EQ(*file.tensors.at("x").as<float>(), 1.5F);
  }
}

TEST(Safetensors, ReadsWhatTheOfficialWriterWrites) {
  const SafetensorsFile file = read_safetensors(MOLT_SOURCE_DIR "/fuzz/seeds/safetensors/four.safetensors");
  ASSERT_EQ(file.tensors.size(), 4U);
  EXPECT_EQ(file.metadata.at("format"), "pt");
  EXPECT_EQ(file.tensors.at("a").as<float>()[3], 3);
  EXPECT_EQ(file.tensors.at("b").data()[2], std::byte{2});
  EXPECT_EQ(file.tensors.at("e").shape(), (Shape{0, 2}));
  EXPECT_EQ(*file.tensors.at("s").as<double>(), 3.5);
}

TEST(Safetensors, TensorsKeepTheFileMapped) {
  Tensor tensor;
  {
    const SafetensorsFile file = read_safetensors(kTiny + "mamba1-tiny/model.safetensors");
    tensor = file.tensors.at("backbone.embeddings.weight");
  }
  EXPECT_GT(touch({{"x", tensor}}), 0U);
}

TEST(Safetensors, RefusesBrokenHeaders) {
  const auto entry = [](const std::string& members) { return file_of("{\"x\":{" + members + "}}", 16); };
  const auto offsets = [&](const std::string& value) {
    return entry(R"("dtype":"F32","shape":[4],"data_offsets":)" + value);
  };
  const auto shape = [&](const std::string& value) {
    return entry(R"("dtype":"F32","data_offsets":[0,16],"shape":)" + value);
  };
  const auto dtype = [&](const std::string& value) {
    return entry(R"("shape":[4],"data_offsets":[0,16],"dtype":)" + value);
  };
  EXPECT_NO_THROW(read(offsets("[0,16]")));
  EXPECT_ERROR(read(""), "m.safetensors: 0 bytes are too few");
  EXPECT_ERROR(read("1234567"), "7 bytes are too few");
  EXPECT_ERROR(read(file_of("{}", 0, 1)), "truncated");
  EXPECT_ERROR(read(little_endian(~std::uint64_t{0}, 8) + "{}"), "not a safetensors file");
  EXPECT_ERROR(read(little_endian(100'000'001, 8) + "{}"), "not a safetensors file");
  EXPECT_ERROR(read(file_of("", 0)), "not valid JSON");
  EXPECT_ERROR(read(file_of("[1]", 0)), "must be a JSON object, not an array of 1");
  EXPECT_ERROR(read(file_of(R"({"x":3})", 0)), "tensor `x` must be an object, not 3");
  EXPECT_ERROR(read(entry(R"("shape":[4],"data_offsets":[0,16])")), "tensor `x` has no \"dtype\"");
  EXPECT_ERROR(read(entry(R"("dtype":"F32","data_offsets":[0,16])")), "no \"shape\"");
  EXPECT_ERROR(read(entry(R"("dtype":"F32","shape":[4])")), "no \"data_offsets\"");
  EXPECT_ERROR(read(dtype("7")), "\"dtype\" of tensor `x` must be a string, not 7");
  EXPECT_ERROR(read(dtype(R"("F8_E4M3")")), "dtype `F8_E4M3`; molt reads F32,");
  EXPECT_ERROR(read(shape("4")), "\"shape\" of tensor `x` must be an array, not 4");
  EXPECT_ERROR(read(shape("[-4]")), "non-negative integers, not -4");
  EXPECT_ERROR(read(shape("[4.0]")), "non-negative integers, not 4.0");
  EXPECT_ERROR(read(shape("[\"4\"]")), "non-negative integers, not the string `4`");
  EXPECT_ERROR(read(shape("[18446744073709551615]")), "non-negative integers");
  EXPECT_ERROR(read(shape("[4611686018427387904,4]")), "impossible shape");
  EXPECT_ERROR(read(shape("[4611686018427387904,4,0]")), "impossible shape");
  EXPECT_ERROR(read(shape("[5]")), "needs 20 bytes, but data_offsets [0, 16] give it 16");
  EXPECT_ERROR(read(offsets("[0]")), "must hold two numbers");
  EXPECT_ERROR(read(offsets("[0,16,17]")), "must hold two numbers");
  EXPECT_ERROR(read(offsets("[-1,15]")), "non-negative integers, not -1");
  EXPECT_ERROR(read(offsets("[16,0]")), "claims the bytes [16, 0) of 16");
  EXPECT_ERROR(read(offsets("[1,17]")), "truncated or corrupt");
  EXPECT_ERROR(read(offsets("[0,9223372036854775807]")), "truncated or corrupt");
  EXPECT_ERROR(read(offsets("[null,16]")), "not null");
  EXPECT_ERROR(read(file_of(R"({"__metadata__":[]})", 0)), "must be an object");
  EXPECT_ERROR(read(file_of(R"({"__metadata__":{"n":1}})", 0)), "`n` in \"__metadata__\" must be a string, not 1");
  EXPECT_ERROR(read(file_of(std::string(1'000'000, '['), 0)), "deep");
  EXPECT_ERROR(read(file_of("{\"x\":" + std::string(1'000'000, '['), 0)), "deep");
}

TEST(Safetensors, RefusesHolesOverlapsAndDuplicates) {
  const auto two = [](const char* first, const char* second, const char* second_name = "b") {
    return file_of(fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                               R"("{}":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                               first, second_name, second),
                   8);
  };
  EXPECT_NO_THROW(read(two("[0,4]", "[4,8]")));
  EXPECT_NO_THROW(read(two("[4,8]", "[0,4]")));
  EXPECT_ERROR(read(two("[0,4]", "[3,7]")), "overlaps");
  EXPECT_ERROR(read(two("[0,4]", "[0,4]")), "overlaps");
  EXPECT_ERROR(read(two("[0,4]", "[4,8]", "a")), "`a` stands twice");
  const auto one = [](const char* offsets) {
    return file_of(fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})", offsets), 8);
  };
  EXPECT_ERROR(read(one("[4,8]")), "holes");
  EXPECT_ERROR(read(one("[0,4]")), "take 4 bytes of data, but the file has 8");
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::string whole = file_of(kTwo, 19);
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_THROW(read(whole.substr(0, size)), Error) << size;
  EXPECT_THROW(read(whole + "x"), Error);
}

RC_GTEST_PROP(SafetensorsProperty, MutatedFilesNeverCrash, ()) {
  std::string content = file_of(kTwo, 19);
  const auto edits = *rc::gen::inRange(1, 6);
  for (int i = 0; i < edits; ++i) {
    content[*rc::gen::inRange<std::size_t>(0, content.size())] = *rc::gen::arbitrary<char>();
  }
  try {
    touch(read(content).tensors);
  } catch (const Error&) {
  }
}

Tensor iota(DType dtype, Shape shape) {
  Tensor tensor = Tensor::zeros(dtype, std::move(shape));
  for (std::int64_t i = 0; i < tensor.bytes(); ++i) tensor.data()[i] = static_cast<std::byte>(i * 7 + 3);
  return tensor;
}

bool same(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())) == 0;
}

TEST(Safetensors, WritesWhatItReads) {
  const TempFolder folder;
  const std::vector<std::pair<std::string, Tensor>> tensors = {{"z", iota(DType::f32, {3, 5})},
                                                               {"empty", iota(DType::f32, {0, 2})},
                                                               {"naïve \"name\"", iota(DType::bf16, {7})},
                                                               {"scalar", iota(DType::u8, {})}};
  write_safetensors(folder / "m.safetensors", tensors, {{"format", "pt"}, {"note", "x"}});
  const SafetensorsFile file = read_safetensors(folder / "m.safetensors");
  EXPECT_EQ(file.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(same(file.tensors.at(name), tensor)) << name;
  EXPECT_EQ(file.metadata.at("note"), "x");
  const std::string content = read_file(folder / "m.safetensors");
  EXPECT_EQ(static_cast<unsigned char>(content[0]) % 8, 0);  // the data begin aligned
  EXPECT_LT(content.find("\"z\""), content.find("\"scalar\""));
}

TEST(Safetensors, RewritesAFixtureByteForByte) {
  const TempFolder folder;
  const std::string source = kTiny + "mamba2-tiny/model.safetensors";
  const SafetensorsFile file = read_safetensors(source);
  const std::vector<std::pair<std::string, Tensor>> ordered(file.tensors.begin(), file.tensors.end());
  write_safetensors(folder / "copy", ordered, file.metadata);
  EXPECT_EQ(read_file(folder / "copy"), read_file(source));
}

/// Limits the size of the files that this process writes, as a full disk does, while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  rlimit before_{};
};

TEST(Safetensors, AFullDiskIsAnErrorThatLeavesTheOldFile) {
  const std::vector<std::pair<std::string, Tensor>> tensors = {{"x", iota(DType::f32, {100'000})}};
  EXPECT_ERROR(write_safetensors("/dev/full", tensors), "/dev/full: cannot write: No space left on device");
  const TempFolder folder;
  EXPECT_ERROR(write_safetensors(folder / "absent/m.safetensors", tensors), "cannot create");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));

  folder.write("m.safetensors", "the old file");
  {
    const FileSizeLimit limit(200'000);
    EXPECT_ERROR(write_safetensors(folder / "m.safetensors", tensors), "cannot write: File too large");
  }
  EXPECT_EQ(read_file(folder / "m.safetensors"), "the old file");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);  // no temporary file stays
}

}  // namespace
}  // namespace molt
