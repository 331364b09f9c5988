/* Products of fp32 weights.
 *
 * Every output is one sum in the order of the inputs, so a row's bits do not depend on the other rows in the pass.
 */
#include "lanes.h"

#include <string.h>

enum { SPAN = 128 }; /* inputs whose weights stay in the L1 cache while all rows read them */

/* Three registers of sums of a row, or of weights. */
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

INLINE struct trio weights(const void *at) {
    const float *weight = at;
    return (struct trio){_mm512_loadu_ps(weight), _mm512_loadu_ps(weight + PANEL), _mm512_loadu_ps(weight + 2 * PANEL)};
}

INLINE __m512 spread(const float *x) { return _mm512_set1_ps(*x); }

#define INPUT float
#define SUM float
#define AT_ONCE 1
#include "tiles.h"

AVX512 static void put_sums(const struct product *product, const struct sink *sink, int64_t row, int64_t column,
                            const float *sums) {
    for (int64_t end = column + GROUP; column < end; column += PANEL, sums += PANEL) {
        __m512 values = _mm512_add_ps(_mm512_load_ps(sums), _mm512_loadu_ps(product->bias + column));
        put(sink, row, column, values, first_lanes(product->out - column));
    }
}

/* Multiply up to TOGETHER rows, starting at ``row``. */
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
