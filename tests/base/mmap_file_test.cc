#include "base/mmap_file.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

#include "tests/support/temp_folder.h"

namespace molt {
namespace {

constexpr std::int64_t kBytes = 16 << 20;

/// Bytes of files that the process has in memory.
std::int64_t resident_files() {
  std::int64_t all = 0;
  std::int64_t resident = 0;
  std::int64_t shared = 0;
  std::ifstream("/proc/self/statm") >> all >> resident >> shared;
  return shared * sysconf(_SC_PAGESIZE);
}

TEST(MmapFile, DropsPagesAndFetchesThemAgain) {
  const testing_support::TempFolder folder;
  const std::string path = folder.path() + "/weights";
  testing_support::write_file(path, std::string(kBytes, 'w'));
  const auto file = MmapFile::open(path);
  const auto all_are_there = [&] {
    return std::ranges::all_of(file->bytes(), [](std::byte b) { return b == std::byte{'w'}; });
  };

  const std::int64_t before = resident_files();
  EXPECT_TRUE(all_are_there());
  EXPECT_GT(resident_files() - before, kBytes / 2);
  file->drop_pages();
  EXPECT_LT(resident_files() - before, kBytes / 8);
  EXPECT_TRUE(all_are_there());
}

TEST(MmapFile, OfNothingHasNothingToDrop) {
  const testing_support::TempFolder folder;
  testing_support::write_file(folder.path() + "/empty", "");
  const auto file = MmapFile::open(folder.path() + "/empty");
  file->drop_pages();
  EXPECT_TRUE(file->bytes().empty());
}

}  // namespace
}  // namespace molt
