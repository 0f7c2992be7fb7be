#include "model/row_slices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <numeric>

#include "tests/support/offsets.h"

namespace molt {

// For GoogleTest's messages.
void PrintTo(const RowSlice& slice, std::ostream* out) {
  *out << "rows [" << slice.begin << ", " << slice.end << ") of " << slice.sequences << " sequences from "
       << slice.first_sequence << ", " << slice.earlier << " rows of it earlier";
}

bool operator==(const RowSlice& a, const RowSlice& b) {
  return a.begin == b.begin && a.end == b.end && a.first_sequence == b.first_sequence && a.sequences == b.sequences &&
         a.earlier == b.earlier;
}

namespace {

using testing::ElementsAre;
using testing_support::offsets_of;

TEST(CutRows, ShortSequencesLieTogether) {
  const auto offsets = offsets_of({3, 0, 4, 2, 7});
  EXPECT_THAT(cut_rows(offsets, 8),
              ElementsAre(RowSlice{0, 7, 0, 3, 0}, RowSlice{7, 9, 3, 1, 0}, RowSlice{9, 16, 4, 1, 0}));
}

TEST(CutRows, LongOnesAreCutFromTheirFirstRowOn) {
  const auto offsets = offsets_of({3, 11, 1});
  EXPECT_THAT(cut_rows(offsets, 4), ElementsAre(RowSlice{0, 3, 0, 1, 0}, RowSlice{3, 7, 1, 1, 0},
                                                RowSlice{7, 11, 1, 1, 4}, RowSlice{11, 15, 1, 2, 8}));
}

TEST(CutRows, LittleThatIsLeftStaysWithTheSliceBefore) {
  const auto offsets = offsets_of({6, 10, 7});
  EXPECT_THAT(cut_rows(offsets, 4),
              ElementsAre(RowSlice{0, 6, 0, 1, 0}, RowSlice{6, 10, 1, 1, 0}, RowSlice{10, 16, 1, 1, 4},
                          RowSlice{16, 20, 2, 1, 0}, RowSlice{20, 23, 2, 1, 4}));
}

TEST(CutRows, NoRowsNoSlices) {
  EXPECT_TRUE(cut_rows(offsets_of({}), 4).empty());
  EXPECT_TRUE(cut_rows(offsets_of({0, 0}), 4).empty());
}

RC_GTEST_PROP(CutRows, EveryRowOnceAndWhereNobodyElseMatters, ()) {
  const auto lengths = *rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 30));
  const auto rows = *rc::gen::inRange<std::int64_t>(1, 12);
  const auto offsets = offsets_of(lengths);
  std::int64_t end = 0;
  for (const RowSlice& slice : cut_rows(offsets, rows)) {
    RC_ASSERT(slice.begin == end);
    RC_ASSERT(slice.begin < slice.end && slice.end - slice.begin <= rows + rows / 2);
    RC_ASSERT(slice.earlier % rows == 0);
    const std::int64_t first = offsets[slice.first_sequence];
    RC_ASSERT(slice.begin == first + slice.earlier);
    RC_ASSERT(offsets[slice.first_sequence + slice.sequences] >= slice.end);
    RC_ASSERT(offsets[slice.first_sequence + slice.sequences - 1] <= slice.end);
    end = slice.end;
  }
  RC_ASSERT(end == offsets.back());
}

TEST(SlicedRows, WritingRowsAndThoseThatRunInFull) {
  const auto offsets = offsets_of({6, 4});
  const std::vector<std::int64_t> full = {2, 5, 8, 9};
  const std::vector<std::int64_t> early = {0, 1};
  const std::vector<std::int64_t> late = {3, 4, 6, 7};
  const std::vector<std::uint8_t> wanted = {0, 0, 1, 0, 0, 1, 0, 0, 1, 1};
  std::vector<float> x(20);
  std::iota(x.begin(), x.end(), 0.0F);
  const std::vector<AbsentRows> writes = {{{x.data(), 2, 2}, nullptr, early}, {{x.data() + 4, 4, 2}, nullptr, late}};
  const LayerRows whole{.offsets = offsets, .full = full, .writes = writes, .wanted = wanted.data()};

  const SlicedRows second(whole, {4, 6, 0, 1, 4});
  EXPECT_THAT(second.rows().offsets, ElementsAre(0, 2));
  EXPECT_THAT(second.rows().full, ElementsAre(1));
  EXPECT_EQ(second.full_begin(), 1);
  EXPECT_EQ(second.full_end(), 2);
  ASSERT_EQ(second.rows().writes.size(), 1U);
  EXPECT_THAT(second.rows().writes[0].places, ElementsAre(0));
  EXPECT_EQ(second.rows().writes[0].residual(0, 0), 6.0F);  // the second of the late ones
  EXPECT_EQ(second.rows().wanted, wanted.data() + 4);

  const SlicedRows last(whole, {8, 10, 1, 1, 2});  // nothing writes in it: there is nothing to tell apart
  EXPECT_THAT(last.rows().offsets, ElementsAre(0, 2));
  EXPECT_TRUE(last.rows().writes.empty());
  EXPECT_TRUE(last.rows().full.empty());
  EXPECT_EQ(last.full_begin(), 2);
  EXPECT_EQ(last.full_end(), 4);
}

}  // namespace
}  // namespace molt
