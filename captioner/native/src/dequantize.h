/* Conversion of sums of int8 levels to floats. */

/* One group of columns of a row: sum_k (a_k step + least) w_k scale + bias. */
INLINE void put_levels(const struct product *product, const struct rows *rows, const struct sink *sink, int64_t row,
                       int64_t column, const int32_t *sums) {
    const floats step = f_all(rows->step[row]), least = f_all(rows->least[row]);
    for (int64_t end = column + GROUP; column < end; column += LANES, sums += LANES) {
        floats constant = f_fma(f_load(product->totals + column), least, f_load(product->bias + column));
        floats values = f_mul(f_from(i_load(sums)), f_load(product->scale + column));
        put(sink, row, column, f_fma(values, step, constant), product->out - column);
    }
}
