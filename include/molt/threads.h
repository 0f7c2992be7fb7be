// How many cores molt uses: one pool of threads for the whole process.
#pragma once

namespace molt {

/// Threads that molt's kernels use, the caller's included. Default: cores available to this process (its affinity
/// mask).
int num_threads();

/// Sets num_threads(), at least 1. Must not be called while another thread is inside molt.
void set_num_threads(int threads);

}  // namespace molt
