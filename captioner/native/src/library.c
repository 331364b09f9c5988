/* Functions that Python calls before it uses this library. */
#include "plan.h"

#include <sys/syscall.h>
#include <unistd.h>

enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* of arch_prctl; a process must request permission to use AMX */

/* 0: this CPU cannot run the library; 1: it can; 2: it can and has AMX. */
int captioner_level(void) {
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma")))
        return 0;
    int tiles = __builtin_cpu_supports("amx-int8") && __builtin_cpu_supports("amx-tile");
    return tiles && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 ? 2 : 1;
}

/* Sizes of the shared structs, which detect a library that was built from other sources. */
int64_t captioner_size(int which) {
    const int64_t sizes[] = {sizeof(struct product), sizeof(struct layer), sizeof(struct step)};
    return sizes[which];
}
