// Schedules: at which sites how many tokens stay. Everything here is arithmetic on doubles and counts.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "molt/reducer.h"

namespace molt {

/// The paper's sites for a model of `layers` blocks: [12, 17, ..., 42] for 64, [10, 15, ..., 35] for 48, scaled in
/// proportion for other depths (24: [4, 6, ..., 16]). Ascending, without repetition, each below layers - 1.
std::vector<std::int64_t> paper_sites(std::int64_t layers);

/// How the share removed changes from the first site to the last.
enum class Ramp { flat, rising, falling };

/// Keep ratios for `sites` such that 1 - mean over layers of (tokens entering the layer / N) = flops, by bisection, no
/// lengths rounded. flat: one ratio for all sites; rising and falling: the share removed grows or shrinks linearly from
/// site to site (low-to-high, high-to-low). Throws Error when the sites cannot save as much.
Schedule solve_schedule(std::vector<std::int64_t> sites, std::int64_t layers, double flops, Ramp ramp);

/// The cut of a schedule, no lengths rounded.
double cut_of(const Schedule& schedule, std::int64_t layers);

/// Tokens that stay of `tokens` at a site: min(N, max(2, ceil(N * ratio))).
std::int64_t tokens_kept(std::int64_t tokens, double ratio);

}  // namespace molt
