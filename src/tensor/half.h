// Rounding to half precision.
#pragma once

#include "tensor/dtype.h"

namespace molt {

/// `value` rounded to the nearest IEEE half, ties to even; an infinity beyond 65504.
Float16 round_to_f16(float value);

}  // namespace molt
