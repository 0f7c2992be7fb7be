// What the tests of readers share: bytes, temporary folders, and expectations about errors.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "molt/error.h"

namespace molt {

inline const std::string kTiny = MOLT_SOURCE_DIR "/tests/fixtures/tiny/";

/// Expects that `statement` throws molt::Error whose message contains `part`.
#define EXPECT_ERROR(statement, part)                                     \
  try {                                                                   \
    statement;                                                            \
    ADD_FAILURE() << "no error, where \"" << (part) << "\" was expected"; \
  } catch (const ::molt::Error& error) {                                  \
    EXPECT_THAT(std::string(error.what()), ::testing::HasSubstr(part));   \
  }

/// A folder of its own, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "molt-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string path() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, std::string_view content) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    if (!file) throw std::runtime_error("cannot write a test's file");
    return *this / name;
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Bytes in a buffer of exactly their size, so that AddressSanitizer sees every read beyond it.
class ExactBytes {
 public:
  explicit ExactBytes(std::string_view content)
      : data_(new std::byte[content.size()], std::default_delete<std::byte[]>()), size_(content.size()) {
    std::copy_n(reinterpret_cast<const std::byte*>(content.data()), content.size(), data_.get());
  }
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
  std::shared_ptr<const void> owner() const { return data_; }

 private:
  std::shared_ptr<std::byte> data_;
  std::size_t size_;
};

/// The `size` low bytes of `value`, the lowest first.
inline std::string little_endian(std::uint64_t value, int size) {
  std::string bytes;
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

}  // namespace molt
