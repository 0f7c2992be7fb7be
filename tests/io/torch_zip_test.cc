#include "io/torch_zip.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>

#include "io/safetensors.h"
#include "tests/io/torch_files.h"

namespace molt {
namespace {

using Tensors = std::map<std::string, Tensor>;
using Extents = std::vector<std::int64_t>;

Tensors read(const std::string& archive) {
  const ExactBytes exact(archive);
  return read_torch_zip(exact.bytes(), exact.owner(), "m.bin");
}

/// Float storage of 0, 1, 2, ...
std::string floats(int count) {
  std::string data;
  for (int i = 0; i < count; ++i) {
    const auto value = static_cast<float>(i);
    data.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  return data;
}

/// An archive of a pickle and the float storage "0" of six elements.
std::string archive(const std::string& value, const std::string& byte_order = "little") {
  return ZipBuilder()
      .add("m/data.pkl", pickle::whole(value))
      .add("m/byteorder", byte_order)
      .add("m/data/0", floats(6))
      .add("m/version", "3\n")
      .build();
}

std::string six() {
  return pickle::storage("FloatStorage", "0", 6);
}

std::string tensor(std::int64_t offset, const Extents& shape, const Extents& strides) {
  return pickle::tensor(six(), offset, shape, strides);
}

/// The one tensor "w" of that layout.
Tensor strided(std::int64_t offset, const Extents& shape, const Extents& strides) {
  return read(archive(pickle::dict({{"w", tensor(offset, shape, strides)}}))).at("w");
}

std::vector<float> values(const Tensor& tensor) {
  return {tensor.as<float>(), tensor.as<float>() + tensor.size()};
}

// --- what real files hold

/// mamba_ssm names a tensor as transformers does, but for the embedding.
void expect_same_weights(const std::string& name) {
  const Tensors torch = read_torch_zip(kTiny + name + "-mamba_ssm/pytorch_model.bin");
  const Tensors safe = read_safetensors(kTiny + name + "/model.safetensors").tensors;
  std::size_t compared = 0;
  for (const auto& [key, tensor] : torch) {
    std::string other = key;
    if (const auto at = other.find("embedding."); at != std::string::npos) other.replace(at, 10, "embeddings.");
    if (!safe.contains(other)) {
      EXPECT_EQ(other, "lm_head.weight");  // tied: safetensors leaves it out
      other = "backbone.embeddings.weight";
    }
    const Tensor& twin = safe.at(other);
    EXPECT_EQ(tensor.shape(), twin.shape()) << key;
    ASSERT_EQ(tensor.dtype(), twin.dtype()) << key;
    EXPECT_EQ(std::memcmp(tensor.data(), twin.data(), static_cast<std::size_t>(twin.bytes())), 0) << key;
    ++compared;
  }
  EXPECT_GE(compared, safe.size());
}

TEST(TorchZip, HoldsTheSameWeightsAsItsSafetensorsTwin) {
  expect_same_weights("mamba1-tiny");
  expect_same_weights("mamba2-tiny");
}

TEST(TorchZip, ReadsWhatPythonsOwnZipfileAndPickleWrite) {
  const std::string seeds = MOLT_SOURCE_DIR "/fuzz/seeds/torch_zip/";
  const Tensors plain = read_torch_zip(seeds + "state_dict.bin");
  ASSERT_EQ(plain.size(), 3U);
  EXPECT_EQ(values(plain.at("w")), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(plain.at("tied").data(), plain.at("w").data());
  EXPECT_EQ(plain.at("transposed").shape(), (Shape{3, 2}));
  EXPECT_EQ(values(plain.at("transposed")), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  const Tensors nested = read_torch_zip(seeds + "nested_protocol4.bin");
  ASSERT_EQ(nested.size(), 2U);
  EXPECT_EQ(nested.at("p").dtype(), DType::f16);
  EXPECT_EQ(nested.at("p").shape(), (Shape{3}));
  EXPECT_EQ(nested.at("p").data()[0], std::byte{2});
  EXPECT_EQ(nested.at("n").shape(), Shape{});
}

TEST(TorchZip, ReadsViewsWithoutCopying) {
  const ExactBytes exact(archive(pickle::dict({{"w", tensor(2, {2, 2}, {2, 1})}})));
  const Tensors tensors = read_torch_zip(exact.bytes(), exact.owner(), "m.bin");
  const Tensor& w = tensors.at("w");
  EXPECT_EQ(values(w), (std::vector<float>{2, 3, 4, 5}));
  EXPECT_TRUE(std::less_equal<>()(exact.bytes().data(), w.data()));
  EXPECT_TRUE(std::less<>()(w.data(), exact.bytes().data() + exact.bytes().size()));
}

TEST(TorchZip, ReadsEveryStorageType) {
  const std::vector<std::pair<const char*, DType>> types = {
      {"DoubleStorage", DType::f64},    {"FloatStorage", DType::f32}, {"HalfStorage", DType::f16},
      {"BFloat16Storage", DType::bf16}, {"LongStorage", DType::i64},  {"IntStorage", DType::i32},
      {"ShortStorage", DType::i16},     {"CharStorage", DType::i8},   {"ByteStorage", DType::u8},
      {"BoolStorage", DType::boolean}};
  for (const auto& [type, dtype] : types) {
    const std::int64_t count = 24 / size_of(dtype);
    const auto tensors =
        read(archive(pickle::dict({{"w", pickle::tensor(pickle::storage(type, "0", count), 0, {count}, {1})}})));
    EXPECT_EQ(tensors.at("w").dtype(), dtype);
    EXPECT_EQ(tensors.at("w").shape(), (Shape{count}));
  }
}

TEST(TorchZip, TiedWeightsShareTheirBytes) {
  const std::string first = tensor(0, {6}, {1}) + "q\x09";
  const Tensors tensors = read(archive(pickle::dict({{"a", first}, {"b", "h\x09"}, {"c", tensor(0, {3, 2}, {2, 1})}})));
  EXPECT_EQ(tensors.at("a").data(), tensors.at("b").data());
  EXPECT_EQ(tensors.at("a").data(), tensors.at("c").data());
}

TEST(TorchZip, FindsNestedStateDictsAndIgnoresTheRest) {
  const std::string inner = pickle::dict({{"w", tensor(0, {6}, {1})}, {"step", "K\x01"}, {"name", pickle::text("x")}});
  for (const char* key : {"state_dict", "model", "module"}) {
    const Tensors tensors = read(archive(pickle::dict({{"epoch", "K\x07"}, {key, inner}})));
    ASSERT_EQ(tensors.size(), 1U);
    EXPECT_EQ(tensors.begin()->first, "w");
  }
  EXPECT_EQ(read(archive(pickle::dict({{"model", pickle::dict({{"state_dict", inner}})}}))).size(), 1U);
  EXPECT_ERROR(read(archive(pickle::dict({{"weights", inner}}))), "m.bin: holds no dict of tensors");
  EXPECT_ERROR(read(archive("]")), "holds no dict of tensors");
  EXPECT_ERROR(read(archive(pickle::dict({}))), "model.state_dict()");
  // A dict that holds itself ends the search too.
  EXPECT_ERROR(read(archive("}q\x09(" + pickle::text("model") + "h\x09u")), "holds no dict of tensors");
}

TEST(TorchZip, UnwrapsParameters) {
  const auto parameter = [](const std::string& of) {
    return pickle::call(pickle::global("torch._utils", "_rebuild_parameter"), {of, "\x88", "N"});
  };
  const Tensors tensors = read(archive(pickle::dict({{"w", parameter(tensor(0, {6}, {1}))}})));
  EXPECT_EQ(tensors.at("w").size(), 6);
  EXPECT_ERROR(read(archive(pickle::dict({{"w", parameter("N")}}))), "tensor `w`: a parameter of something else");
  EXPECT_ERROR(read(archive(pickle::dict({{"w", parameter(parameter(tensor(0, {6}, {1})))}}))), "something else");
}

// --- strides

TEST(TorchZip, GathersStridedTensors) {
  EXPECT_EQ(values(strided(0, {3, 2}, {1, 3})), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(values(strided(1, {3}, {2})), (std::vector<float>{1, 3, 5}));
  EXPECT_EQ(values(strided(0, {2, 2}, {0, 1})), (std::vector<float>{0, 1, 0, 1}));
  EXPECT_EQ(values(strided(0, {1, 2, 1, 3}, {INT64_MAX, 1, INT64_MAX, 2})), (std::vector<float>{0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(values(strided(5, {}, {})), (std::vector<float>{5}));
  EXPECT_EQ(strided(0, {0, 3}, {3, 1}).size(), 0);
  EXPECT_EQ(strided(100, {0}, {1}).size(), 0);
}

TEST(TorchZip, RefusesTensorsBeyondTheirStorage) {
  EXPECT_ERROR(strided(0, {7}, {1}), "m.bin: tensor `w`: offset 0, shape [7] and strides [1] reach beyond");
  EXPECT_ERROR(strided(1, {6}, {1}), "reach beyond its storage of 6 elements");
  EXPECT_ERROR(strided(6, {1}, {1}), "reach beyond");
  EXPECT_ERROR(strided(6, {}, {}), "reach beyond");
  EXPECT_ERROR(strided(0, {2, 2}, {5, 1}), "reach beyond");
  EXPECT_ERROR(strided(INT64_MAX, {2}, {1}), "reach beyond");
  EXPECT_ERROR(strided(0, {3}, {INT64_MAX}), "reach beyond");
  EXPECT_ERROR(strided(0, {INT64_MAX / 2, 3}, {1, 1}), "impossible shape");
  EXPECT_ERROR(strided(0, {INT64_MAX, 8, 0}, {1, 1, 1}), "impossible shape");
  EXPECT_ERROR(strided(-1, {1}, {1}), "not a count in its storage offset");
  EXPECT_ERROR(strided(5, {2}, {-1}), "not a count in its strides");
  EXPECT_ERROR(strided(0, {-1}, {1}), "not a count in its shape");
  EXPECT_ERROR(strided(0, {2, 2}, {1}), "different length");
  EXPECT_ERROR(strided(0, Extents(65, 1), Extents(65, 1)), "65 axes");
}

TEST(TorchZip, RefusesToExpandAFewBytesToMany) {
  EXPECT_ERROR(strided(0, {1'000'000'000'000}, {0}), "more than the file can stand for");
  std::vector<std::pair<std::string, std::string>> many;
  for (int i = 0; i < 1000; ++i) many.emplace_back(fmt::format("t{}", i), tensor(0, {100, 100}, {0, 0}));
  EXPECT_ERROR(read(archive(pickle::dict(many))), "more than the file can stand for");
}

// --- archives and pickles that are not what they should be

TEST(TorchZip, RefusesCodeByName) {
  const std::string attack = pickle::call(pickle::global("os", "system"), {pickle::text("touch /tmp/owned")});
  EXPECT_ERROR(read(archive(pickle::dict({{"w", attack}}))), "m.bin, data.pkl: byte");
  EXPECT_ERROR(read(archive(pickle::dict({{"w", attack}}))), "refuses to load `os.system`");
}

TEST(TorchZip, RefusesOtherFormatsWithAWayOut) {
  EXPECT_ERROR(read(""), "m.bin: no PyTorch checkpoint");
  EXPECT_ERROR(read("\x7f"
                    "ELF..."),
               "no PyTorch checkpoint");
  EXPECT_ERROR(read("\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19."), "written by PyTorch before 1.6");
  EXPECT_ERROR(read(ZipBuilder().add("readme.txt", "hello").build()), "without NAME/data.pkl");
  EXPECT_ERROR(read(ZipBuilder().add("data.pkl", "N.").build()), "without NAME/data.pkl");
  EXPECT_ERROR(read(ZipBuilder().add("a/data.pkl", "N.").add("b/data.pkl", "N.").build()), "several pickles");
  EXPECT_ERROR(read(ZipBuilder().add("a/data.pkl", "N.").add("a/constants.pkl", "N.").build()), "TorchScript");
  EXPECT_ERROR(read(archive(pickle::dict({{"w", tensor(0, {6}, {1})}}), "big")), "byte order is `big`");
  EXPECT_ERROR(read(ZipBuilder().add({.name = "m/data.pkl", .data = "x", .method = 8}).build()), "is compressed");
}

TEST(TorchZip, RefusesMalformedTensors) {
  const auto with = [](const std::string& storage) {
    return archive(pickle::dict({{"w", pickle::tensor(storage, 0, {6}, {1})}}));
  };
  EXPECT_ERROR(read(with(pickle::storage("FloatStorage", "1", 6))), "its storage `m/data/1` is not in the archive");
  EXPECT_ERROR(read(with(pickle::storage("FloatStorage", "../data.pkl", 6))), "is not in the archive");
  EXPECT_ERROR(read(with(pickle::storage("DoubleStorage", "0", 6))), "holds 24 bytes, not 6 elements of f64");
  EXPECT_ERROR(read(with(pickle::storage("FloatStorage", "0", INT64_MAX))), "holds 24 bytes");
  EXPECT_ERROR(read(with(pickle::storage("FloatStorage", "0", -6))), "not a count in its storage size");
  EXPECT_ERROR(read(with(pickle::storage("ComplexFloatStorage", "0", 3))), "`torch.ComplexFloatStorage`");
  EXPECT_ERROR(read(with("N")), "tensor `w`: no storage");
  EXPECT_ERROR(read(with("NQ")), "a storage of unknown form");
  EXPECT_ERROR(read(with(pickle::tuple({pickle::text("storage")}) + "Q")), "a storage of unknown form");
  const auto call = [](const std::vector<std::string>& arguments) {
    return archive(
        pickle::dict({{"w", pickle::call(pickle::global("torch._utils", "_rebuild_tensor_v2"), arguments)}}));
  };
  EXPECT_ERROR(read(call({})), "made of 0 arguments");
  EXPECT_ERROR(read(call({six(), "K\x01", ")", ")", "\x89", "N", pickle::dict({{"neg", "\x88"}})})), "negated");
  EXPECT_NO_THROW(read(call({six(), "K\x01", ")", ")", "\x89", "N", "N"})));
  EXPECT_ERROR(read(call({six(), "N", ")", ")", "\x89", "N"})), "not a count in its storage offset");
  EXPECT_ERROR(read(call({six(), "K\x01", "N", ")", "\x89", "N"})), "its shape is no tuple");
}

TEST(TorchZip, EveryTruncationIsAnError) {
  const std::string whole = archive(pickle::dict({{"w", tensor(0, {2, 3}, {3, 1})}}));
  EXPECT_NO_THROW(read(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_THROW(read(whole.substr(0, size)), Error) << size;
}

RC_GTEST_PROP(TorchZipProperty, MutatedFilesNeverCrash, ()) {
  std::string content = archive(pickle::dict({{"w", tensor(0, {2, 3}, {3, 1})}, {"v", tensor(1, {2, 2}, {1, 2})}}));
  const auto edits = *rc::gen::inRange(1, 6);
  for (int i = 0; i < edits; ++i) {
    content[*rc::gen::inRange<std::size_t>(0, content.size())] = *rc::gen::arbitrary<char>();
  }
  try {
    for (const auto& [name, tensor] : read(content)) {
      volatile std::byte sum{};
      for (std::int64_t i = 0; i < tensor.bytes(); ++i) sum = sum ^ tensor.data()[i];
    }
  } catch (const Error&) {
  }
}

}  // namespace
}  // namespace molt
