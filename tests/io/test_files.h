// What the tests of readers share: bytes, and expectations about errors.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "molt/error.h"
#include "tests/support/temp_folder.h"

namespace molt {

using testing_support::read_file;
using testing_support::TempFolder;

inline const std::string kTiny = MOLT_SOURCE_DIR "/tests/fixtures/tiny/";

/// Expects that `statement` throws molt::Error whose message contains `part`.
#define EXPECT_ERROR(statement, part)                                     \
  try {                                                                   \
    statement;                                                            \
    ADD_FAILURE() << "no error, where \"" << (part) << "\" was expected"; \
  } catch (const ::molt::Error& error) {                                  \
    EXPECT_THAT(std::string(error.what()), ::testing::HasSubstr(part));   \
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
