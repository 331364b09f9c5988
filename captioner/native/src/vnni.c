/* Products of int8 weights with AVX-512 VNNI. The sums are whole numbers, so they are exact in any order. */
#include "dequantize.h"

/* Sums of a row, or weights, for up to three panels. */
struct trio {
    __m512i a, b, c;
};

INLINE struct trio add(const int P, struct trio sum, __m512i x, struct trio w) {
    sum.a = _mm512_dpbusd_epi32(sum.a, x, w.a);
    if (P > 1) {
        sum.b = _mm512_dpbusd_epi32(sum.b, x, w.b);
        sum.c = _mm512_dpbusd_epi32(sum.c, x, w.c);
    }
    return sum;
}

INLINE void put_trio(const int P, const struct product *product, const struct rows *rows, const struct sink *sink,
                     int64_t row, int64_t panel, struct trio sum) {
    put_levels(product, rows, sink, row, panel * PANEL, sum.a);
    if (P > 1) {
        put_levels(product, rows, sink, row, (panel + 1) * PANEL, sum.b);
        put_levels(product, rows, sink, row, (panel + 2) * PANEL, sum.c);
    }
}

/* Four levels of a row, in every lane. */
INLINE __m512i four(const uint8_t *levels) { return _mm512_set1_epi32(*(const int32_t *)levels); }

/* ``R`` rows by ``P`` panels, 1 or 3, in registers: named ones, since gcc keeps an array in memory too. While the weights
 * are read, as many bytes at ``next`` are fetched. */
INLINE void tile(const int R, const int P, const struct product *product, const struct rows *rows,
                 const struct sink *sink, int64_t row, int64_t panel, const char *next) {
    const int64_t depth = padded(product->in);
    const int8_t *weight = product->levels + panel * depth * PANEL;
    const uint8_t *x = rows->levels + row * depth, *end = x + depth;
    struct trio s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, s4 = {0}, s5 = {0}, s6 = {0}, s7 = {0};
    for (; x < end; x += 4, weight += 64, next += 64 * P) {
        struct trio w = {.a = _mm512_loadu_si512(weight)};
        _mm_prefetch(next, _MM_HINT_T1);
        if (P > 1) {
            w.b = _mm512_loadu_si512(weight + depth * PANEL);
            w.c = _mm512_loadu_si512(weight + 2 * depth * PANEL);
            _mm_prefetch(next + 64, _MM_HINT_T1);
            _mm_prefetch(next + 128, _MM_HINT_T1);
        }
        s0 = add(P, s0, four(x), w);
        if (R > 1) s1 = add(P, s1, four(x + depth), w);
        if (R > 2) s2 = add(P, s2, four(x + 2 * depth), w);
        if (R > 3) s3 = add(P, s3, four(x + 3 * depth), w);
        if (R > 4) s4 = add(P, s4, four(x + 4 * depth), w);
        if (R > 5) s5 = add(P, s5, four(x + 5 * depth), w);
        if (R > 6) s6 = add(P, s6, four(x + 6 * depth), w);
        if (R > 7) s7 = add(P, s7, four(x + 7 * depth), w);
    }
    put_trio(P, product, rows, sink, row, panel, s0);
    if (R > 1) put_trio(P, product, rows, sink, row + 1, panel, s1);
    if (R > 2) put_trio(P, product, rows, sink, row + 2, panel, s2);
    if (R > 3) put_trio(P, product, rows, sink, row + 3, panel, s3);
    if (R > 4) put_trio(P, product, rows, sink, row + 4, panel, s4);
    if (R > 5) put_trio(P, product, rows, sink, row + 5, panel, s5);
    if (R > 6) put_trio(P, product, rows, sink, row + 6, panel, s6);
    if (R > 7) put_trio(P, product, rows, sink, row + 7, panel, s7);
}

/* The constants make each case a loop without branches. */
AVX512 static void tiles(int count, int panels, const struct product *product, const struct rows *rows,
                         const struct sink *sink, int64_t row, int64_t panel, const char *next) {
    switch (panels * 10 + count) {
    case 31: tile(1, 3, product, rows, sink, row, panel, next); break;
    case 32: tile(2, 3, product, rows, sink, row, panel, next); break;
    case 33: tile(3, 3, product, rows, sink, row, panel, next); break;
    case 34: tile(4, 3, product, rows, sink, row, panel, next); break;
    case 35: tile(5, 3, product, rows, sink, row, panel, next); break;
    case 36: tile(6, 3, product, rows, sink, row, panel, next); break;
    case 37: tile(7, 3, product, rows, sink, row, panel, next); break;
    case 38: tile(8, 3, product, rows, sink, row, panel, next); break;
    case 11: tile(1, 1, product, rows, sink, row, panel, next); break;
    case 12: tile(2, 1, product, rows, sink, row, panel, next); break;
    case 13: tile(3, 1, product, rows, sink, row, panel, next); break;
    case 14: tile(4, 1, product, rows, sink, row, panel, next); break;
    case 15: tile(5, 1, product, rows, sink, row, panel, next); break;
    case 16: tile(6, 1, product, rows, sink, row, panel, next); break;
    case 17: tile(7, 1, product, rows, sink, row, panel, next); break;
    case 18: tile(8, 1, product, rows, sink, row, panel, next); break;
    }
}

AVX512 void multiply_vnni(const struct product *product, const struct rows *rows, const struct sink *sink,
                          struct share part, const void *next) {
    for (int64_t panel = part.first, panels; panel < part.end; panel += panels) {
        panels = part.end - panel >= 3 ? 3 : 1;
        int64_t after = panel + panels;
        const char *ahead = after < part.end ? (const char *)(product->levels + after * padded(product->in) * PANEL) : next;
        for (int64_t row = 0; row < rows->count; row += 8) {
            int64_t left = rows->count - row;
            tiles(left < 8 ? (int)left : 8, (int)panels, product, rows, sink, row, panel, ahead);
        }
    }
}
