/* Products of fp32 weights.
 *
 * Every output is one sum in the order of the inputs, so a row's bits do not depend on the other rows in the pass.
 */
struct trio_fp32 {
    floats a, b, c;
};

INLINE struct trio_fp32 add_fp32(struct trio_fp32 sum, floats x, struct trio_fp32 w) {
    return (struct trio_fp32){f_fma(w.a, x, sum.a), f_fma(w.b, x, sum.b), f_fma(w.c, x, sum.c)};
}

INLINE struct trio_fp32 load_fp32(const float *sums) {
    return (struct trio_fp32){f_load(sums), f_load(sums + LANES), f_load(sums + 2 * LANES)};
}

INLINE void save_fp32(float *sums, struct trio_fp32 sum) {
    f_store(sums, sum.a);
    f_store(sums + LANES, sum.b);
    f_store(sums + 2 * LANES, sum.c);
}

INLINE struct trio_fp32 weights_fp32(const char *at) { return load_fp32((const float *)at); }
INLINE floats spread_fp32(const float *x) { return f_all(*x); }

static int64_t steps_fp32(const struct product *product) { return product->in; }
static int64_t width_fp32(const struct rows *rows) { return rows->width; }
static const char *first_weight_fp32(const struct product *product) { return (const char *)product->weight; }
static const float *first_row_fp32(const struct rows *rows) { return rows->values; }

TARGET static void put_fp32(const struct product *product, const struct rows *rows, const struct sink *sink, int64_t row,
                            int64_t column, const float *sums) {
    (void)rows;
    for (int64_t end = column + GROUP; column < end; column += LANES, sums += LANES)
        put(sink, row, column, f_add(f_load(sums), f_load(product->bias + column)), product->out - column);
}

#define OF(name) name##_fp32
#define INPUT float
#define SUM float
#define AT_ONCE 1
#define ABREAST ABREAST_FP32
#include "tiles.h"
