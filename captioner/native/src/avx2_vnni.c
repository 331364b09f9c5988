/* The functions for AVX2 with VNNI. */
#if defined(__x86_64__) || defined(_M_X64)
#define AVX2_WITH_VNNI
#include "avx2.h"

#define KERNELS kernels_avx2_vnni
#include "kernels.h"
#else
typedef int nothing; /* another kind of CPU */
#endif
