#include "compress/quantizer.h"

#include "base/fail.h"

namespace molt {

const QuantizerEntry& find_quantizer(const std::string& name) {
  const auto& registry = Registry<QuantizerEntry>::instance();
  const QuantizerEntry* entry = registry.find(name);
  if (entry == nullptr) {
    fail("unknown method of quantization '{}'; known: {}", name, fmt::join(registry.names(), ", "));
  }
  return *entry;
}

}  // namespace molt
