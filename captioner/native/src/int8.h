/* Products of int8 weights. The sums are integers, so they are exact in any order. */
#include "dequantize.h"

struct trio_int8 {
    ints a, b, c;
};

INLINE struct trio_int8 add_int8(struct trio_int8 sum, ints x, struct trio_int8 w) {
    return (struct trio_int8){i_add(sum.a, x, w.a), i_add(sum.b, x, w.b), i_add(sum.c, x, w.c)};
}

INLINE struct trio_int8 load_int8(const int32_t *sums) {
    return (struct trio_int8){i_load(sums), i_load(sums + LANES), i_load(sums + 2 * LANES)};
}

INLINE void save_int8(int32_t *sums, struct trio_int8 sum) {
    i_store(sums, sum.a);
    i_store(sums + LANES, sum.b);
    i_store(sums + 2 * LANES, sum.c);
}

INLINE struct trio_int8 weights_int8(const char *at) {
    return (struct trio_int8){i_weights(at), i_weights(at + 4 * LANES), i_weights(at + 8 * LANES)};
}

INLINE ints spread_int8(const uint8_t *levels) { return i_spread(levels); }

static int64_t steps_int8(const struct product *product) { return padded(product->in) / 4; }
static int64_t width_int8(const struct rows *rows) { return padded(rows->width); }
static const char *first_weight_int8(const struct product *product) { return (const char *)product->levels; }
static const uint8_t *first_row_int8(const struct rows *rows) { return rows->levels; }

TARGET static void put_int8(const struct product *product, const struct rows *rows, const struct sink *sink, int64_t row,
                            int64_t column, const int32_t *sums) {
    put_levels(product, rows, sink, row, column, sums);
}

#define OF(name) name##_int8
#define INPUT uint8_t
#define SUM int32_t
#define AT_ONCE 4
#define ABREAST ABREAST_INT8
#include "tiles.h"
