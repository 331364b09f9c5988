/* Products of fp32 weights.
 *
 * Every output is one sum in the order of the inputs, whatever rows share the pass over the weights: a row has the same
 * bits in any company.
 */
#include "lanes.h"

#include <string.h>

enum { SPAN = 128 }; /* inputs whose weights stay in the first cache while all rows read them */

/* Three registers: sums of a row, or weights. */
struct trio {
    __m512 a, b, c;
};

INLINE struct trio add(struct trio sum, __m512 x, struct trio w) {
    return (struct trio){_mm512_fmadd_ps(w.a, x, sum.a), _mm512_fmadd_ps(w.b, x, sum.b), _mm512_fmadd_ps(w.c, x, sum.c)};
}

INLINE struct trio load(const float *sums) {
    return (struct trio){_mm512_load_ps(sums), _mm512_load_ps(sums + PANEL), _mm512_load_ps(sums + 2 * PANEL)};
}

INLINE void save(float *sums, struct trio sum) {
    _mm512_store_ps(sums, sum.a);
    _mm512_store_ps(sums + PANEL, sum.b);
    _mm512_store_ps(sums + 2 * PANEL, sum.c);
}

/* ``R`` rows, ``x`` and those ``width`` behind each other, onto their sums: in registers that have names, since gcc keeps
 * an array in memory too. */
INLINE void tile(const int R, struct run run, const float *x, int64_t width, float *sums) {
    const float *weight = run.weight;
    const char *ahead = run.ahead;
    struct trio s0 = load(sums), s1, s2, s3, s4, s5, s6, s7;
    if (R > 1) s1 = load(sums + 1 * GROUP);
    if (R > 2) s2 = load(sums + 2 * GROUP);
    if (R > 3) s3 = load(sums + 3 * GROUP);
    if (R > 4) s4 = load(sums + 4 * GROUP);
    if (R > 5) s5 = load(sums + 5 * GROUP);
    if (R > 6) s6 = load(sums + 6 * GROUP);
    if (R > 7) s7 = load(sums + 7 * GROUP);
    for (int64_t k = 0; k < run.count; k++, x++, weight += GROUP, ahead += run.step) {
        struct trio w = {_mm512_loadu_ps(weight), _mm512_loadu_ps(weight + PANEL), _mm512_loadu_ps(weight + 2 * PANEL)};
        _mm_prefetch(ahead, _MM_HINT_T1);
        _mm_prefetch(ahead + 64, _MM_HINT_T1);
        _mm_prefetch(ahead + 128, _MM_HINT_T1);
        s0 = add(s0, _mm512_set1_ps(x[0]), w);
        if (R > 1) s1 = add(s1, _mm512_set1_ps(x[width]), w);
        if (R > 2) s2 = add(s2, _mm512_set1_ps(x[2 * width]), w);
        if (R > 3) s3 = add(s3, _mm512_set1_ps(x[3 * width]), w);
        if (R > 4) s4 = add(s4, _mm512_set1_ps(x[4 * width]), w);
        if (R > 5) s5 = add(s5, _mm512_set1_ps(x[5 * width]), w);
        if (R > 6) s6 = add(s6, _mm512_set1_ps(x[6 * width]), w);
        if (R > 7) s7 = add(s7, _mm512_set1_ps(x[7 * width]), w);
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
AVX512 static void tiles(int64_t rows, struct run run, const float *x, int64_t width, float *sums) {
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

AVX512 static void put_sums(const struct product *product, const struct sink *sink, int64_t row, int64_t column,
                            const float *sums) {
    for (int64_t end = column + GROUP; column < end; column += PANEL, sums += PANEL) {
        __m512 values = _mm512_add_ps(_mm512_load_ps(sums), _mm512_loadu_ps(product->bias + column));
        put(sink, row, column, values, first_lanes(product->out - column));
    }
}

/* Up to TOGETHER rows from ``row`` on. */
AVX512 static void multiply_some(const struct product *product, const struct rows *rows, const struct sink *sink,
                                 struct share part, const char *next, int64_t row, int64_t count) {
    float sums[TOGETHER * GROUP] __attribute__((aligned(64)));
    const int64_t in = product->in, passes = (count + 7) / 8, span = passes == 1 ? in : SPAN;
    for (int64_t group = part.first; group < part.end; group++) {
        memset(sums, 0, (size_t)count * GROUP * sizeof(float));
        for (int64_t k = 0; k < in; k += span) {
            const float *weight = product->weight + (group * in + k) * GROUP;
            struct run run = {weight, in - k < span ? in - k : span, NULL, GROUP * sizeof(float) / passes};
            int last = group + 1 == part.end && k + span >= in;
            run.ahead = last ? next : (const char *)(weight + run.count * GROUP);
            for (int64_t r = 0; r < count; r += 8, run.ahead += run.count * run.step)
                tiles(count - r, run, rows->values + (row + r) * in + k, in, sums + r * GROUP);
        }
        for (int64_t r = 0; r < count; r++)
            put_sums(product, sink, row + r, group * GROUP, sums + r * GROUP);
    }
}

AVX512 void multiply_fp32(const struct product *product, const struct rows *rows, const struct sink *sink,
                          struct share part, const void *next) {
    for (int64_t row = 0; row < rows->count; row += TOGETHER) {
        int64_t left = rows->count - row;
        multiply_some(product, rows, sink, part, next, row, left < TOGETHER ? left : TOGETHER);
    }
}
