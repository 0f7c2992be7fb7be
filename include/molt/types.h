// Types that all of molt's API shares.
#pragma once

#include <cstdint>

namespace molt {

/// The number of a token in a model's vocabulary.
using TokenId = std::int32_t;

}  // namespace molt
