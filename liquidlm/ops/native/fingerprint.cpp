// What the loader asks the library first: a hash of the sources that it was built from.
#include "lanes.h"

EXPORT const char* KERNEL(fingerprint)() { return LIQUIDLM_FINGERPRINT; }
