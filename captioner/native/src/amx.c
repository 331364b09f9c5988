/* Products of int8 weights with AMX, for many rows: its tiles are VNNI's panels, and its sums are exact too. */
#if defined(__x86_64__) && defined(__linux__) /* others do not let a process use it */
#include "avx512.h"

#include "activations.h"

#include "dequantize.h"

#define AMX TARGETS("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,amx-tile,amx-int8")

enum { TALL = 16 }; /* rows of a tile */

struct tiles { /* operand of LDTILECFG */
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

/* Tiles 0 to 2 hold sums, 3 to 5 levels of up to 48 rows, 6 weights. */
AMX static void configure(int64_t rows) {
    struct tiles tiles = {.palette = 1};
    for (int i = 0; i < 3; i++) {
        int64_t left = rows - i * TALL;
        uint8_t tall = left <= 0 ? 1 : left < TALL ? (uint8_t)left : TALL;
        tiles.rows[i] = tiles.rows[3 + i] = tall;
        tiles.bytes[i] = tiles.bytes[3 + i] = 64;
    }
    tiles.rows[6] = TALL;
    tiles.bytes[6] = 64;
#if defined(__GNUC__) || defined(__clang__)
    __asm__ volatile("" : : "r"(&tiles) : "memory"); /* gcc assumes that LDTILECFG reads only the first eight bytes */
#endif
    _tile_loadconfig(&tiles);
}

/* Sums of one panel of a group, for ``count`` <= TOGETHER rows; prefetches from ``ahead`` as much as it reads. */
AMX static void sum_panel(const uint8_t *x, const int8_t *weight, const char *ahead, int64_t depth, int64_t count,
                          int32_t *sums) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    for (int64_t k = 0; k < depth; k += DEPTH) {
        for (int64_t line = 0; line < DEPTH * PANEL; line += 64)
            PREFETCH(ahead + k * PANEL + line);
        _tile_loadd(6, weight + k * GROUP, 4 * GROUP);
        _tile_loadd(3, x + k, depth);
        _tile_dpbusd(0, 3, 6);
        if (count > TALL) {
            _tile_loadd(4, x + TALL * depth + k, depth);
            _tile_dpbusd(1, 4, 6);
        }
        if (count > 2 * TALL) {
            _tile_loadd(5, x + 2 * TALL * depth + k, depth);
            _tile_dpbusd(2, 5, 6);
        }
    }
    _tile_stored(0, sums, GROUP * sizeof(int32_t));
    _tile_stored(1, sums + TALL * GROUP, GROUP * sizeof(int32_t));
    _tile_stored(2, sums + 2 * TALL * GROUP, GROUP * sizeof(int32_t));
}

AMX void multiply_amx(const struct product *product, const struct rows *rows, const struct sink *sink,
                      struct share part, const void *next) {
    const int64_t depth = padded(product->in);
    _Alignas(64) int32_t sums[TOGETHER * GROUP];
    for (int64_t row = 0; row < rows->count; row += TOGETHER) {
        int64_t count = rows->count - row < TOGETHER ? rows->count - row : TOGETHER;
        configure(count);
        for (int64_t group = part.first; group < part.end; group++) {
            const int8_t *weight = product->levels + group * depth * GROUP;
            const char *ahead = group + 1 == part.end ? next : (const char *)weight + depth * GROUP;
            for (int64_t p = 0; p < GROUP; p += PANEL)
                sum_panel(rows->levels + row * depth, weight + 4 * p, ahead + depth * p, depth, count, sums + p);
            for (int64_t r = 0; r < count; r++)
                put_levels(product, rows, sink, row + r, group * GROUP, sums + r * GROUP);
        }
    }
    _tile_release();
}
#else
typedef int nothing;
#endif
