/* Products of int8 weights with AVX-512 VNNI. The sums are integers, so they are exact in any order. */
#include "dequantize.h"

#include <string.h>

/* Three registers of sums of a row, or of weights. */
struct trio {
    __m512i a, b, c;
};

INLINE struct trio add(struct trio sum, __m512i x, struct trio w) {
    return (struct trio){_mm512_dpbusd_epi32(sum.a, x, w.a), _mm512_dpbusd_epi32(sum.b, x, w.b), _mm512_dpbusd_epi32(sum.c, x, w.c)};
}

INLINE struct trio load(const int32_t *sums) {
    return (struct trio){_mm512_load_si512(sums), _mm512_load_si512(sums + PANEL), _mm512_load_si512(sums + 2 * PANEL)};
}

INLINE void save(int32_t *sums, struct trio sum) {
    _mm512_store_si512(sums, sum.a);
    _mm512_store_si512(sums + PANEL, sum.b);
    _mm512_store_si512(sums + 2 * PANEL, sum.c);
}

/* Four levels of a row, broadcast to every lane. */
INLINE __m512i spread(const uint8_t *levels) { return _mm512_set1_epi32(*(const int32_t *)levels); }

INLINE struct trio weights(const void *at) {
    const char *weight = at;
    return (struct trio){_mm512_loadu_si512(weight), _mm512_loadu_si512(weight + 64), _mm512_loadu_si512(weight + 128)};
}

#define INPUT uint8_t
#define SUM int32_t
#define AT_ONCE 4
#include "tiles.h"

/* Multiply up to TOGETHER rows, starting at ``row``. */
AVX512 static void multiply_some(const struct product *product, const struct rows *rows, const struct sink *sink,
                                 struct share part, const char *next, int64_t row, int64_t count) {
    int32_t sums[TOGETHER * GROUP] __attribute__((aligned(64)));
    const int64_t depth = padded(product->in), passes = (count + 7) / 8;
    for (int64_t group = part.first; group < part.end; group++) {
        memset(sums, 0, (size_t)count * GROUP * sizeof(int32_t));
        const int8_t *weight = product->levels + group * depth * GROUP;
        struct run run = {weight, depth / 4, NULL, 4 * GROUP / passes};
        run.ahead = group + 1 == part.end ? next : (const char *)(weight + depth * GROUP);
        for (int64_t r = 0; r < count; r += 8, run.ahead += run.count * run.step)
            tiles(count - r, run, rows->levels + (row + r) * depth, depth, sums + r * GROUP);
        for (int64_t r = 0; r < count; r++)
            put_levels(product, rows, sink, row + r, group * GROUP, sums + r * GROUP);
    }
}

AVX512 void multiply_vnni(const struct product *product, const struct rows *rows, const struct sink *sink,
                          struct share part, const void *next) {
    for (int64_t row = 0; row < rows->count; row += TOGETHER) {
        int64_t left = rows->count - row;
        multiply_some(product, rows, sink, part, next, row, left < TOGETHER ? left : TOGETHER);
    }
}
