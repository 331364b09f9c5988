/* The functions for SSE4.2. */
#if defined(__x86_64__) || defined(_M_X64)
#include "sse42.h"

#define KERNELS kernels_sse42
#include "kernels.h"
#else
typedef int nothing; /* another kind of CPU */
#endif
