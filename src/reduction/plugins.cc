// Methods make themselves known: molt's own before main(), those of a plugin while it is loaded.
#include <dlfcn.h>

#include <mutex>
#include <vector>

#include "base/fail.h"
#include "base/registry.h"
#include "molt/reducer.h"
#include "molt/reduction.h"

namespace molt {
namespace {

/// What the registrations of a plugin came to.
struct Loading {
  bool any = false;
  std::vector<std::string> taken;  // names that other methods have
};

/// Of the plugin that this thread is loading, or null: static initializers run on the thread that loads.
thread_local Loading* loading = nullptr;

}  // namespace

MethodRegistration::MethodRegistration(std::string_view name, MethodInfo info) {
  auto& registry = Registry<MethodInfo>::instance();
  if (loading != nullptr) {
    loading->any = true;
    if (registry.find(name) != nullptr) {  // a user's mistake, not one of molt's: told when all are heard
      loading->taken.emplace_back(name);
      return;
    }
  }
  registry.add(name, std::move(info));
}

void load_reduction_plugin(const std::string& path) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  // Without a slash the loader would look in the system's folders only.
  const std::string file = path.find('/') == std::string::npos ? "./" + path : path;
  if (dlopen(file.c_str(), RTLD_NOW | RTLD_NOLOAD) != nullptr) return;  // loaded before: nothing registers twice
  Loading result;
  loading = &result;
  const void* const handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  loading = nullptr;
  if (handle == nullptr) fail("plugin {}: {}", path, dlerror());
  if (!result.any) fail("plugin {}: brings no reduction method (it has no molt::MethodRegistration)", path);
  if (!result.taken.empty()) {
    fail("plugin {}: there is a method {} already; give its own another name", path, fmt::join(result.taken, ", "));
  }
}

}  // namespace molt
