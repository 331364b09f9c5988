/* The functions for AVX-512 with VNNI. */
#if defined(__x86_64__) || defined(_M_X64)
#include "avx512.h"

#define KERNELS kernels_avx512
#include "kernels.h"
#else
typedef int nothing; /* another kind of CPU */
#endif
