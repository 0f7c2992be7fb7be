#include "base/aligned_memory.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

extern "C" void __asan_init() __attribute__((weak));  // NOLINT: names that the sanitizers chose
extern "C" void __tsan_init() __attribute__((weak));  // NOLINT

namespace molt {
namespace {

/// Bytes of the process's address space.
std::int64_t address_space() {
  std::int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * sysconf(_SC_PAGESIZE);
}

/// Whether the program was linked with a sanitizer, which this file was not compiled with.
bool under_sanitizer() {
  return &__asan_init != nullptr || &__tsan_init != nullptr;
}

TEST(AlignedMemory, BeginsAtACacheLine) {
  for (const std::int64_t count : {0, 1, 15, 16, 17, 100000}) {
    const AlignedFloats floats = allocate_floats(count);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(floats.get()) % kCacheLine, 0U);
    std::fill_n(floats.get(), count, 1.0F);  // for the address sanitizer
  }
  free_aligned(nullptr);
}

/// The states of a batch come and go between small allocations that stay: the process must not grow for it.
TEST(AlignedMemory, ServesAgain) {
  if (under_sanitizer()) GTEST_SKIP() << "a sanitizer keeps what was freed";
  std::vector<std::unique_ptr<std::string>> stay;
  std::int64_t first = 0;
  std::int64_t last = 0;
  for (int round = 0; round < 60; ++round) {
    std::vector<AlignedFloats> batch;
    for (int i = 0; i < 12; ++i) {
      batch.push_back(allocate_floats((3 << 18) + 1000 * (i % 5)));  // 3 MB
      batch.back()[0] = 1;
      stay.push_back(std::make_unique<std::string>(200 + 10 * i, 'x'));
    }
    (round == 0 ? first : last) = address_space();
  }
  EXPECT_LT(last - first, 50 << 20);
}

}  // namespace
}  // namespace molt
