/* Top k of many numbers: a search needs about ten logits of a vocabulary. */
#include "native.h"

#include <omp.h>

enum { MOST = 64 }; /* largest k */

struct best {
    int64_t count, worst; /* index of the smallest value, the later one of equal values */
    float values[MOST];
    int64_t places[MOST];
};

static void find_worst(struct best *best) {
    best->worst = 0;
    for (int64_t i = 1; i < best->count; i++) {
        float value = best->values[i], least = best->values[best->worst];
        if (value < least || (value == least && best->places[i] > best->places[best->worst]))
            best->worst = i;
    }
}

/* Find the top ``count`` of ``x``, unordered; NaN counts as the smallest value. */
AVX512 static void find(const float *x, int64_t width, int64_t count, struct best *best) {
    best->count = count;
    for (int64_t i = 0; i < count; i++) {
        best->values[i] = x[i] == x[i] ? x[i] : -INFINITY;
        best->places[i] = i;
    }
    find_worst(best);
    for (int64_t i = count; i < width; i += PANEL) {
        __mmask16 lanes = first_lanes(width - i);
        __m512 values = _mm512_maskz_loadu_ps(lanes, x + i);
        lanes = _mm512_mask_cmp_ps_mask(lanes, values, _mm512_set1_ps(best->values[best->worst]), _CMP_GT_OQ);
        for (; lanes; lanes &= lanes - 1) {
            int64_t place = i + __builtin_ctz(lanes);
            if (!(x[place] > best->values[best->worst]))
                continue; /* an earlier lane has raised the threshold */
            best->values[best->worst] = x[place];
            best->places[best->worst] = place;
            find_worst(best);
        }
    }
}

/* Sort, largest first; equal values in order of position. */
static void sort(struct best *best) {
    for (int64_t i = 1; i < best->count; i++) {
        float value = best->values[i];
        int64_t place = best->places[i], to = i;
        for (; to > 0; to--) {
            float before = best->values[to - 1];
            if (before > value || (before == value && best->places[to - 1] < place))
                break;
            best->values[to] = before;
            best->places[to] = best->places[to - 1];
        }
        best->values[to] = value;
        best->places[to] = place;
    }
}

/* The top ``count`` <= min(MOST, width) of each row of ``x`` [rows][width], largest first. */
void captioner_largest(const float *x, int64_t rows, int64_t width, int64_t count, float *values, int64_t *places,
                       int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        struct best best;
        find(x + row * width, width, count, &best);
        sort(&best);
        for (int64_t i = 0; i < count; i++) {
            values[row * count + i] = best.values[i];
            places[row * count + i] = best.places[i];
        }
    }
}

AVX512 static float dot(const float *a, const float *b, int64_t width) {
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (int64_t k = 0; k < width; k += 2 * PANEL) {
        __mmask16 first = first_lanes(width - k), second = first_lanes(width - k - PANEL);
        even = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(first, a + k), _mm512_maskz_loadu_ps(first, b + k), even);
        odd = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(second, a + k + PANEL),
                              _mm512_maskz_loadu_ps(second, b + k + PANEL), odd);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
}

/* Recompute the top ``count`` of each row of ``logits`` [rows][words] from ``x`` [rows][width], the ``table``
 * [words][width] and the ``bias`` [words], which may be NULL. */
void captioner_sharpen(float *logits, int64_t rows, int64_t words, int64_t count, const float *x, const float *table,
                       const float *bias, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        struct best best;
        find(logits + row * words, words, count, &best);
        for (int64_t i = 0; i < count; i++)
            _mm_prefetch((const char *)(table + best.places[i] * width), _MM_HINT_T0);
        for (int64_t i = 0; i < count; i++) {
            int64_t place = best.places[i];
            logits[row * words + place] = dot(x + row * width, table + place * width, width) + (bias ? bias[place] : 0.0f);
        }
    }
}
