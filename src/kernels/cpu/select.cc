#include "kernels/cpu/select.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <string>
#include <vector>

#include "base/fail.h"

namespace molt {

// The tables, one a namespace, as stamped by isa.cmake.
namespace portable {
extern const Kernels kernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512_bf16 {
extern const Kernels kernels;
}
namespace avx512_amx {
Kernels with_tiles(const Kernels& base);
}
#endif

namespace {

#if defined(__x86_64__)
/// Whether this machine has AMX for bfloat16 and bytes, and the system lets this process use it: Linux gives tile
/// registers only to processes that ask for them, then to all threads of theirs.
bool may_use_amx() {
#if defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1U << 22, kTile = 1U << 24, kInt8 = 1U << 25, kAll = kBf16 | kTile | kInt8;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kAll) != kAll) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, of asm/prctl.h
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

/// Tables that this machine can run, best first.
const std::vector<const Kernels*>& runnable() {
  static const std::vector<const Kernels*> tables = [] {
    std::vector<const Kernels*> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) {
      if (may_use_amx()) {
        static const Kernels amx = avx512_amx::with_tiles(avx512_bf16::kernels);
        found.push_back(&amx);
      }
      found.push_back(&avx512_bf16::kernels);
    }
    if (avx512) found.push_back(&avx512::kernels);
    if (avx2) found.push_back(&avx2::kernels);
#endif
    found.push_back(&portable::kernels);
    return found;
  }();
  return tables;
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const Kernels& select_kernels() {
  const Kernels* table = chosen.load(std::memory_order_acquire);
  if (table == nullptr) {
    table = runnable().front();
    chosen.store(table, std::memory_order_release);
  }
  return *table;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* table : runnable()) names.emplace_back(table->name);
  return names;
}

const Kernels* kernels_for(std::string_view name) {
  for (const Kernels* table : runnable()) {
    if (table->name == name) return table;
  }
  return nullptr;
}

void use_isa(std::string_view name) {
  const Kernels* table = kernels_for(name);
  if (table == nullptr) {
    fail("instruction set '{}' is not available here; available: {}", name, fmt::join(available_isas(), ", "));
  }
  chosen.store(table, std::memory_order_release);
}

}  // namespace molt
