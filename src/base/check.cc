#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace molt {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "molt: internal error: %s:%d: check failed: %s\nThis is a bug in molt; please report it.\n",
               file, line, condition);
  std::abort();
}

}  // namespace molt
