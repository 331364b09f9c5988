/* Top k of the rows of a matrix: a search needs about ten logits of a vocabulary. */
#include "native.h"

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
                       int64_t level, int threads) {
    const struct kernels kernels = kernels_of(level);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        struct best best;
        kernels.find(x + row * width, width, count, &best);
        sort(&best);
        for (int64_t i = 0; i < count; i++) {
            values[row * count + i] = best.values[i];
            places[row * count + i] = best.places[i];
        }
    }
}

/* Recompute the top ``count`` of each row of ``logits`` [rows][words] from ``x`` [rows][width], the ``table``
 * [words][width] and the ``bias`` [words], which may be NULL. */
void captioner_sharpen(float *logits, int64_t rows, int64_t words, int64_t count, const float *x, const float *table,
                       const float *bias, int64_t width, int64_t level, int threads) {
    const struct kernels kernels = kernels_of(level);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        struct best best;
        kernels.find(logits + row * words, words, count, &best);
        for (int64_t i = 0; i < count; i++)
            PREFETCH(table + best.places[i] * width);
        for (int64_t i = 0; i < count; i++) {
            int64_t place = best.places[i];
            float product = kernels.dot(x + row * width, table + place * width, width);
            logits[row * words + place] = product + (bias ? bias[place] : 0.0f);
        }
    }
}
