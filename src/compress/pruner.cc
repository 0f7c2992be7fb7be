#include "compress/pruner.h"

#include <charconv>
#include <cmath>

#include "base/fail.h"

namespace molt {
namespace {

constexpr std::int64_t kMostColumns = 16;  // of a pattern: methods try every way of keeping some of them

std::int64_t number(const std::string& text, std::size_t begin, std::size_t end) {
  std::int64_t value = -1;
  const auto [rest, error] = std::from_chars(text.data() + begin, text.data() + end, value);
  return error == std::errc() && rest == text.data() + end ? value : -1;
}

}  // namespace

std::int64_t Sparsity::removed(std::int64_t count) const {
  return std::llround(share * static_cast<double>(count));
}

std::string Sparsity::text() const {
  return pattern() ? fmt::format("{}:{}", keep, of) : fmt::format("{:g}%", 100 * share);
}

Sparsity parse_pattern(const std::string& text) {
  const std::size_t colon = text.find(':');
  Sparsity sparsity;
  if (colon != std::string::npos) {
    sparsity.keep = number(text, 0, colon);
    sparsity.of = number(text, colon + 1, text.size());
  }
  if (sparsity.keep < 1 || sparsity.of <= sparsity.keep || sparsity.of > kMostColumns) {
    fail("'{}' is no pattern: N:M keeps N of every M weights, 1 <= N < M <= {}, as 2:4 or 4:8", text, kMostColumns);
  }
  sparsity.share = 1 - static_cast<double>(sparsity.keep) / static_cast<double>(sparsity.of);
  return sparsity;
}

const PrunerEntry& find_pruner(const std::string& name) {
  const auto& registry = Registry<PrunerEntry>::instance();
  const PrunerEntry* entry = registry.find(name);
  if (entry == nullptr) fail("unknown method of pruning '{}'; known: {}", name, fmt::join(registry.names(), ", "));
  return *entry;
}

}  // namespace molt
