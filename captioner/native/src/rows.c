/* Operations on one row: LayerNorm and quantization. */
#include "lanes.h"

/* Quantize a row to uint8 between its minimum and maximum, like torch.ops.quantized.embedding_bag_byte_prepack. */
AVX512 void quantize(const struct rows *rows, int64_t row) {
    const float *x = rows->values + row * rows->width;
    uint8_t *levels = rows->levels + row * padded(rows->width);
    __m512 low = _mm512_set1_ps(INFINITY), high = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int64_t k = 0; k < rows->width; k += PANEL) {
        __mmask16 lanes = first_lanes(rows->width - k);
        __m512 values = _mm512_maskz_loadu_ps(lanes, x + k);
        low = _mm512_mask_min_ps(low, lanes, low, values);
        high = _mm512_mask_max_ps(high, lanes, high, values);
        sum = _mm512_add_ps(sum, values);
    }
    float least = _mm512_reduce_min_ps(low), range = _mm512_reduce_max_ps(high) - least;
    rows->step[row] = range / 255.0f;
    /* Minimum and maximum ignore NaN; a sum propagates it. */
    rows->least[row] = least + 0.0f * _mm512_reduce_add_ps(sum);
    __m512 origin = _mm512_set1_ps(least), inverse = _mm512_set1_ps(255.0f / (range + 1e-8f));
    for (int64_t k = 0; k < padded(rows->width); k += PANEL) {
        __mmask16 lanes = k < rows->width ? first_lanes(rows->width - k) : 0;
        __m512 offset = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, x + k), origin);
        __m512i level = _mm512_maskz_cvtps_epi32(lanes, _mm512_mul_ps(offset, inverse));
        _mm_storeu_si128((__m128i *)(levels + k), _mm512_cvtusepi32_epi8(level));
    }
}

/* LayerNorm of ``x``, a row, into row ``row`` of ``out``. */
AVX512 void normalize(const float *x, const struct rows *out, int64_t row, const struct norm *norm, float eps) {
    const int64_t width = out->width;
    float *y = out->values + row * width;
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int64_t k = 0; k < width; k += PANEL)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(first_lanes(width - k), x + k));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width);
    for (int64_t k = 0; k < width; k += PANEL) {
        __mmask16 lanes = first_lanes(width - k);
        __m512 offset = _mm512_maskz_sub_ps(lanes, _mm512_maskz_loadu_ps(lanes, x + k), mean);
        squares = _mm512_fmadd_ps(offset, offset, squares);
    }
    __m512 scale = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)width + eps));
    for (int64_t k = 0; k < width; k += PANEL) {
        __mmask16 lanes = first_lanes(width - k);
        __m512 offset = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, x + k), mean);
        __m512 scaled = _mm512_mul_ps(_mm512_mul_ps(offset, scale), _mm512_maskz_loadu_ps(lanes, norm->weight + k));
        _mm512_mask_storeu_ps(y + k, lanes, _mm512_add_ps(scaled, _mm512_maskz_loadu_ps(lanes, norm->bias + k)));
    }
}
