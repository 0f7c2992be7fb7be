#include "kernels/cuda/ssd.h"

namespace molt::cuda {
bool can_chunk(const Context&, const Ssd&) { return false; }
void ssd_chunks(const Context&, const SequenceTable&, const Ssd&, bool, bool, int) {}
}  // namespace molt::cuda
