/* What this CPU can run; Python calls these functions before it uses this library. */
#include "native.h"

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { EAX, EBX, ECX, EDX };
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* of arch_prctl; a process must request permission to use AMX */

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t found[4]) {
#if defined(_MSC_VER)
    __cpuidex((int *)found, (int)leaf, (int)subleaf);
#else
    __cpuid_count(leaf, subleaf, found[EAX], found[EBX], found[ECX], found[EDX]);
#endif
}

/* The registers that the operating system saves: bits of XCR0. */
static uint64_t saved_registers(void) {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
#endif
}

static int all_of(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

/* Whether this CPU and operating system run ``level``. */
int captioner_supports(int level) {
    uint32_t top[4], basic[4], more[4] = {0}, rest[4] = {0};
    cpuid(0, 0, top);
    cpuid(1, 0, basic);
    if (top[EAX] >= 7) {
        cpuid(7, 0, more);
        if (more[EAX] >= 1)
            cpuid(7, 1, rest);
    }
    const uint64_t saved = basic[ECX] >> 27 & 1 ? saved_registers() : 0;
    const int avx2 = all_of(saved, 6) && all_of(basic[ECX], 1u << 12 | 1u << 28 | 1u << 29) && more[EBX] >> 5 & 1;
    const int avx512 = avx2 && all_of(saved, 0xE6) && all_of(more[EBX], 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) &&
                       more[ECX] >> 11 & 1;
    switch (level) {
    case SSE42: return all_of(basic[ECX], 1u << 9 | 1u << 19 | 1u << 20);
    case AVX2: return avx2;
    case AVX2_VNNI: return avx2 && rest[EAX] >> 4 & 1;
    case AVX512: return avx512;
#if defined(__linux__)
    case AMX:
        return avx512 && all_of(saved, 3u << 17) && all_of(more[EDX], 3u << 24) &&
               syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#endif
    default: return 0;
    }
}

struct kernels kernels_of(int64_t level) {
    struct kernels kernels = level == SSE42 ? kernels_sse42 : level == AVX2 ? kernels_avx2 : kernels_avx2_vnni;
    if (level == AVX512 || level == AMX)
        kernels = kernels_avx512;
#if defined(__linux__)
    if (level == AMX)
        kernels.multiply_many_int8 = multiply_amx;
#endif
    return kernels;
}
#else
#if defined(__linux__)
#include <sys/auxv.h>

enum { DOT_PRODUCTS = 1 << 20 }; /* HWCAP_ASIMDDP */

int captioner_supports(int level) { return level == NEON && getauxval(AT_HWCAP) & DOT_PRODUCTS ? 1 : 0; }
#else
int captioner_supports(int level) { return level == NEON; } /* Apple's: all have them */
#endif

struct kernels kernels_of(int64_t level) {
    (void)level;
    return kernels_neon;
}
#endif

/* Sizes of the shared structs, which detect a library that was built from other sources. */
int64_t captioner_size(int which) {
    const int64_t sizes[] = {sizeof(struct product), sizeof(struct layer), sizeof(struct step)};
    return sizes[which];
}
