/* The functions for NEON with dot products. */
#if defined(__aarch64__) || defined(_M_ARM64)
#include "neon.h"

#define KERNELS kernels_neon
#include "kernels.h"
#else
typedef int nothing; /* another kind of CPU */
#endif
