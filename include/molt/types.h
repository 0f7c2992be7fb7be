// Types that all of molt's API shares.
#pragma once

#include <cstdint>

namespace molt {

/// The number of a token in a model's vocabulary.
using TokenId = std::int32_t;

/// How a token's importance is read off its channels y: the mean of max(0, y), of |y| or of y, or the root of the mean
/// of y^2.
enum class Importance { clip, l1, l2, signed_mean };

}  // namespace molt
