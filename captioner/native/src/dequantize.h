/* Conversion of sums of int8 levels to floats. */
#ifndef CAPTIONER_DEQUANTIZE_H
#define CAPTIONER_DEQUANTIZE_H

#include "lanes.h"

/* One group of columns of a row: sum_k (a_k step + least) w_k scale + bias. */
INLINE void put_levels(const struct product *product, const struct rows *rows, const struct sink *sink, int64_t row,
                       int64_t column, const int32_t *sums) {
    const __m512 step = _mm512_set1_ps(rows->step[row]), least = _mm512_set1_ps(rows->least[row]);
    for (int64_t end = column + GROUP; column < end; column += PANEL, sums += PANEL) {
        __m512 constant = _mm512_fmadd_ps(_mm512_loadu_ps(product->totals + column), least,
                                          _mm512_loadu_ps(product->bias + column));
        __m512 values = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums)),
                                      _mm512_loadu_ps(product->scale + column));
        put(sink, row, column, _mm512_fmadd_ps(values, step, constant), first_lanes(product->out - column));
    }
}

#endif
