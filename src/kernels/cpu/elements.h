// Elements of weights, of whichever dtype a file has them in, as float32.
#pragma once

#include "tensor/dtype.h"

namespace molt {

inline float to_float(float value) {
  return value;
}
inline float to_float(double value) {
  return static_cast<float>(value);
}
inline float to_float(BFloat16 value) {
  return value.to_float();
}
inline float to_float(Float16 value) {
  return value.to_float();
}

}  // namespace molt
