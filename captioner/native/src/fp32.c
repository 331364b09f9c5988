/* Products of fp32 weights.
 *
 * Every output is one sum in the order of the inputs, whatever rows share the pass over the weights: a row has the same
 * bits in any company.
 */
#include "lanes.h"

/* Sums of a row, or weights, for up to three panels. */
struct trio {
    __m512 a, b, c;
};

INLINE struct trio add(const int P, struct trio sum, __m512 x, struct trio w) {
    sum.a = _mm512_fmadd_ps(w.a, x, sum.a);
    if (P > 1) {
        sum.b = _mm512_fmadd_ps(w.b, x, sum.b);
        sum.c = _mm512_fmadd_ps(w.c, x, sum.c);
    }
    return sum;
}

INLINE void put_panel(const struct product *product, const struct sink *sink, int64_t row, int64_t column, __m512 sum) {
    __m512 bias = _mm512_loadu_ps(product->bias + column);
    put(sink, row, column, _mm512_add_ps(sum, bias), first_lanes(product->out - column));
}

INLINE void put_trio(const int P, const struct product *product, const struct sink *sink, int64_t row, int64_t panel,
                     struct trio sum) {
    put_panel(product, sink, row, panel * PANEL, sum.a);
    if (P > 1) {
        put_panel(product, sink, row, (panel + 1) * PANEL, sum.b);
        put_panel(product, sink, row, (panel + 2) * PANEL, sum.c);
    }
}

/* ``R`` rows by ``P`` panels, 1 or 3, in registers: named ones, since gcc keeps an array in memory too. While the weights
 * are read, as many bytes at ``next`` are fetched. */
INLINE void tile(const int R, const int P, const struct product *product, const struct rows *rows,
                 const struct sink *sink, int64_t row, int64_t panel, const char *next) {
    const int64_t in = product->in, width = rows->width;
    const float *weight = product->weight + panel * in * PANEL;
    const float *x = rows->values + row * width;
    struct trio s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, s4 = {0}, s5 = {0}, s6 = {0}, s7 = {0};
    for (int64_t k = 0; k < in; k++, x++, weight += PANEL, next += 64 * P) {
        struct trio w = {.a = _mm512_loadu_ps(weight)};
        _mm_prefetch(next, _MM_HINT_T1);
        if (P > 1) {
            w.b = _mm512_loadu_ps(weight + in * PANEL);
            w.c = _mm512_loadu_ps(weight + 2 * in * PANEL);
            _mm_prefetch(next + 64, _MM_HINT_T1);
            _mm_prefetch(next + 128, _MM_HINT_T1);
        }
        s0 = add(P, s0, _mm512_set1_ps(x[0]), w);
        if (R > 1) s1 = add(P, s1, _mm512_set1_ps(x[width]), w);
        if (R > 2) s2 = add(P, s2, _mm512_set1_ps(x[2 * width]), w);
        if (R > 3) s3 = add(P, s3, _mm512_set1_ps(x[3 * width]), w);
        if (R > 4) s4 = add(P, s4, _mm512_set1_ps(x[4 * width]), w);
        if (R > 5) s5 = add(P, s5, _mm512_set1_ps(x[5 * width]), w);
        if (R > 6) s6 = add(P, s6, _mm512_set1_ps(x[6 * width]), w);
        if (R > 7) s7 = add(P, s7, _mm512_set1_ps(x[7 * width]), w);
    }
    put_trio(P, product, sink, row, panel, s0);
    if (R > 1) put_trio(P, product, sink, row + 1, panel, s1);
    if (R > 2) put_trio(P, product, sink, row + 2, panel, s2);
    if (R > 3) put_trio(P, product, sink, row + 3, panel, s3);
    if (R > 4) put_trio(P, product, sink, row + 4, panel, s4);
    if (R > 5) put_trio(P, product, sink, row + 5, panel, s5);
    if (R > 6) put_trio(P, product, sink, row + 6, panel, s6);
    if (R > 7) put_trio(P, product, sink, row + 7, panel, s7);
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

AVX512 void multiply_fp32(const struct product *product, const struct rows *rows, const struct sink *sink,
                          struct share part, const void *next) {
    for (int64_t panel = part.first, panels; panel < part.end; panel += panels) {
        panels = part.end - panel >= 3 ? 3 : 1;
        int64_t after = panel + panels;
        const char *ahead = after < part.end ? (const char *)(product->weight + after * product->in * PANEL) : next;
        for (int64_t row = 0; row < rows->count; row += 8) {
            int64_t left = rows->count - row;
            tiles(left < 8 ? (int)left : 8, (int)panels, product, rows, sink, row, panel, ahead);
        }
    }
}
