/* The functions for AVX2. */
#if defined(__x86_64__) || defined(_M_X64)
#include "avx2.h"

#define KERNELS kernels_avx2
#include "kernels.h"
#else
typedef int nothing; /* another kind of CPU */
#endif
