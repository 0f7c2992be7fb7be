#include "kernels/backend.h"

#include "base/fail.h"
#include "base/registry.h"

namespace molt {

std::shared_ptr<const Backend> make_backend(std::string_view name) {
  const auto& registry = Registry<BackendFactory>::instance();
  if (const BackendFactory* make = registry.find(name)) return (*make)();
  fail("unknown backend '{}'; known: {}", name, fmt::join(registry.names(), ", "));
}

}  // namespace molt
