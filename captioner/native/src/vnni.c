/* Products of int8 weights with AVX-512 VNNI. The sums are whole numbers, so they are exact in any order. */
#include "dequantize.h"

#include <string.h>

/* Three registers: sums of a row, or weights. */
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

/* Four levels of a row, in every lane. */
INLINE __m512i four(const uint8_t *levels) { return _mm512_set1_epi32(*(const int32_t *)levels); }

/* ``R`` rows, ``x`` and those ``width`` behind each other, onto their sums: in registers that have names, since gcc keeps
 * an array in memory too. */
INLINE void tile(const int R, struct run run, const uint8_t *x, int64_t width, int32_t *sums) {
    const int8_t *weight = run.weight;
    const char *ahead = run.ahead;
    struct trio s0 = load(sums), s1, s2, s3, s4, s5, s6, s7;
    if (R > 1) s1 = load(sums + 1 * GROUP);
    if (R > 2) s2 = load(sums + 2 * GROUP);
    if (R > 3) s3 = load(sums + 3 * GROUP);
    if (R > 4) s4 = load(sums + 4 * GROUP);
    if (R > 5) s5 = load(sums + 5 * GROUP);
    if (R > 6) s6 = load(sums + 6 * GROUP);
    if (R > 7) s7 = load(sums + 7 * GROUP);
    for (int64_t k = 0; k < run.count; k++, x += 4, weight += 4 * GROUP, ahead += run.step) {
        struct trio w = {_mm512_loadu_si512(weight), _mm512_loadu_si512(weight + 4 * PANEL), _mm512_loadu_si512(weight + 8 * PANEL)};
        _mm_prefetch(ahead, _MM_HINT_T1);
        _mm_prefetch(ahead + 64, _MM_HINT_T1);
        _mm_prefetch(ahead + 128, _MM_HINT_T1);
        s0 = add(s0, four(x), w);
        if (R > 1) s1 = add(s1, four(x + width), w);
        if (R > 2) s2 = add(s2, four(x + 2 * width), w);
        if (R > 3) s3 = add(s3, four(x + 3 * width), w);
        if (R > 4) s4 = add(s4, four(x + 4 * width), w);
        if (R > 5) s5 = add(s5, four(x + 5 * width), w);
        if (R > 6) s6 = add(s6, four(x + 6 * width), w);
        if (R > 7) s7 = add(s7, four(x + 7 * width), w);
    }
    save(sums, s0);
    if (R > 1) save(sums + 1 * GROUP, s1);
    if (R > 2) save(sums + 2 * GROUP, s2);
    if (R > 3) save(sums + 3 * GROUP, s3);
    if (R > 4) save(sums + 4 * GROUP, s4);
    if (R > 5) save(sums + 5 * GROUP, s5);
    if (R > 6) save(sums + 6 * GROUP, s6);
    if (R > 7) save(sums + 7 * GROUP, s7);
}

/* The constants make each case a loop without branches. */
AVX512 static void tiles(int64_t rows, struct run run, const uint8_t *x, int64_t width, int32_t *sums) {
    switch (rows) {
    case 1: tile(1, run, x, width, sums); break;
    case 2: tile(2, run, x, width, sums); break;
    case 3: tile(3, run, x, width, sums); break;
    case 4: tile(4, run, x, width, sums); break;
    case 5: tile(5, run, x, width, sums); break;
    case 6: tile(6, run, x, width, sums); break;
    case 7: tile(7, run, x, width, sums); break;
    default: tile(8, run, x, width, sums);
    }
}

/* Up to TOGETHER rows from ``row`` on. */
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
