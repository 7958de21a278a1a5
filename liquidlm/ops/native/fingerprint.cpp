// What the loader asks the library first: a hash of the sources that it was built from, and whether it has threads.
#include "lanes.h"

EXPORT const char* KERNEL(fingerprint)() { return LIQUIDLM_FINGERPRINT; }

EXPORT int64_t KERNEL(has_threads)() {
#if defined(_OPENMP)
  return 1;
#else
  return 0;
#endif
}
