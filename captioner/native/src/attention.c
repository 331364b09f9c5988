/* Attention of one head: a query reads only the slots that it sees.
 *
 * A row sums over its own slots in order, wherever they are in the cache, so its bits do not depend on the other rows.
 */
#include "lanes.h"

/* Per 128-bit lane: the sums of a, b, c and d, side by side. */
INLINE __m512 four_sums(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
}

/* Sums over 128-bit lanes of two results of four_sums or over_lanes. */
INLINE __m512 over_lanes(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
}

/* Keys or values as stored: fp32 or fp16. */
struct slots {
    const void *first;
    int64_t width;
    int halves;
};

INLINE __m512 of_slot(struct slots slots, int64_t slot, int64_t column) {
    __mmask16 lanes = first_lanes(slots.width - column);
    int64_t place = slot * slots.width + column;
    if (slots.halves)
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, (const uint16_t *)slots.first + place));
    return _mm512_maskz_loadu_ps(lanes, (const float *)slots.first + place);
}

/* Products of q and one key, lane by lane. */
INLINE __m512 partial(const float *q, struct slots keys, int32_t slot) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t c = 0; c < keys.width; c += PANEL)
        sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(first_lanes(keys.width - c), q + c), of_slot(keys, slot, c), sum);
    return sum;
}

INLINE __m512 four_keys(const float *q, struct slots keys, const int32_t *seen) {
    return four_sums(partial(q, keys, seen[0]), partial(q, keys, seen[1]), partial(q, keys, seen[2]),
                     partial(q, keys, seen[3]));
}

/* Products of q and the keys ``seen``, padded to whole panels, divided by the square root of the width. */
INLINE void multiply_keys(const float *q, struct slots keys, const int32_t *seen, int64_t count, float *logits) {
    __m512 scale = _mm512_set1_ps(1.0f / sqrtf((float)keys.width));
    for (int64_t s = 0; s < count; s += PANEL) {
        __m512 first = over_lanes(four_keys(q, keys, seen + s), four_keys(q, keys, seen + s + 4));
        __m512 second = over_lanes(four_keys(q, keys, seen + s + 8), four_keys(q, keys, seen + s + 12));
        _mm512_storeu_ps(logits + s, _mm512_mul_ps(over_lanes(first, second), scale));
    }
}

/* The weighted sum of the values ``seen``: up to 64 columns at once, with separate sums for even and odd slots. */
INLINE void weigh_values(const float *weights, struct slots values, const int32_t *seen, int64_t count, float *out) {
    for (int64_t c = 0; c < values.width; c += 4 * PANEL) {
        __m512 a0 = _mm512_setzero_ps(), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        for (int64_t s = 0; s < count; s += 2) {
            __m512 even = _mm512_set1_ps(weights[s]);
            a0 = _mm512_fmadd_ps(even, of_slot(values, seen[s], c), a0);
            a1 = _mm512_fmadd_ps(even, of_slot(values, seen[s], c + PANEL), a1);
            a2 = _mm512_fmadd_ps(even, of_slot(values, seen[s], c + 2 * PANEL), a2);
            a3 = _mm512_fmadd_ps(even, of_slot(values, seen[s], c + 3 * PANEL), a3);
            __m512 odd = _mm512_set1_ps(weights[s + 1]); /* the weight after the last one is zero */
            b0 = _mm512_fmadd_ps(odd, of_slot(values, seen[s + 1], c), b0);
            b1 = _mm512_fmadd_ps(odd, of_slot(values, seen[s + 1], c + PANEL), b1);
            b2 = _mm512_fmadd_ps(odd, of_slot(values, seen[s + 1], c + 2 * PANEL), b2);
            b3 = _mm512_fmadd_ps(odd, of_slot(values, seen[s + 1], c + 3 * PANEL), b3);
        }
        const __m512 sums[] = {_mm512_add_ps(a0, b0), _mm512_add_ps(a1, b1), _mm512_add_ps(a2, b2), _mm512_add_ps(a3, b3)};
        for (int64_t i = 0; i < 4; i++)
            _mm512_mask_storeu_ps(out + c + i * PANEL, first_lanes(values.width - c - i * PANEL), sums[i]);
    }
}

/* ``weights`` = (or += if ``add``) share * softmax(logits + bias); zeros up to a whole panel. ``bias`` may be NULL. */
AVX512 static void softmax(const float *logits, const float *bias, int64_t count, float share, int add, float *weights) {
    __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int64_t s = 0; s < count; s += PANEL) {
        __mmask16 lanes = first_lanes(count - s);
        __m512 values = _mm512_maskz_loadu_ps(lanes, logits + s);
        if (bias)
            values = _mm512_add_ps(values, _mm512_maskz_loadu_ps(lanes, bias + s));
        most = _mm512_mask_max_ps(most, lanes, most, values);
    }
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int64_t s = 0; s < count; s += PANEL) {
        __mmask16 lanes = first_lanes(count - s);
        __m512 values = _mm512_maskz_loadu_ps(lanes, logits + s);
        if (bias)
            values = _mm512_add_ps(values, _mm512_maskz_loadu_ps(lanes, bias + s));
        sum = _mm512_mask_add_ps(sum, lanes, sum, exp16(_mm512_sub_ps(values, most)));
    }
    __m512 factor = _mm512_set1_ps(share / _mm512_reduce_add_ps(sum));
    for (int64_t s = 0; s < count; s += PANEL) {
        __mmask16 lanes = first_lanes(count - s);
        __m512 values = _mm512_maskz_loadu_ps(lanes, logits + s);
        if (bias)
            values = _mm512_add_ps(values, _mm512_maskz_loadu_ps(lanes, bias + s));
        values = _mm512_maskz_mul_ps(lanes, exp16(_mm512_sub_ps(values, most)), factor);
        if (add)
            values = _mm512_add_ps(values, _mm512_loadu_ps(weights + s));
        _mm512_storeu_ps(weights + s, values);
    }
}

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
static float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

/* The Gaussian around the point of a query: -d^2 / 2 sigma^2 for each patch, 0 for the tokens before them. */
AVX512 static void focus(const struct reading *reading, int64_t query, float *bias) {
    const struct grid *grid = reading->grid;
    const float *point = reading->point + 2 * query * reading->gate_stride;
    __m512 row = _mm512_set1_ps(sigmoid(point[0])), column = _mm512_set1_ps(sigmoid(point[1]));
    float spread = softplus(reading->spread[query * reading->gate_stride]) + 0.02f;
    __m512 scale = _mm512_set1_ps(-0.5f / (spread * spread));
    for (int64_t s = 0; s < grid->before; s++)
        bias[s] = 0.0f;
    for (int64_t s = 0, count = reading->slots - grid->before; s < count; s += PANEL) {
        __mmask16 lanes = first_lanes(count - s);
        __m512 down = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, grid->rows + s), row);
        __m512 right = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, grid->columns + s), column);
        __m512 square = _mm512_fmadd_ps(down, down, _mm512_mul_ps(right, right));
        _mm512_mask_storeu_ps(bias + grid->before + s, lanes, _mm512_mul_ps(square, scale));
    }
}

int64_t look(const uint8_t *global, const uint8_t *local, int64_t slots, int32_t *seen, float *window) {
    int64_t count = 0;
    for (int64_t s = 0; s < slots; s++) {
        seen[count] = (int32_t)s;
        window[count] = local && !local[s] ? -INFINITY : 0.0f;
        count += !global || global[s];
    }
    for (int64_t s = count; s % PANEL; s++)
        seen[s] = seen[count - 1];
    return count;
}

int64_t attention_scratch(int64_t slots) { return 3 * (slots + PANEL); }

INLINE void attend_as(const struct reading *reading, float *scratch, int64_t width, int halves) {
    const int64_t room = reading->slots + PANEL;
    const struct slots keys = {reading->keys, width, halves}, values = {reading->values, width, halves};
    float *logits = scratch, *gaussian = logits + room, *weights = gaussian + room;
    for (int64_t query = 0; query < reading->queries; query++) {
        const float *q = reading->q + query * reading->q_stride;
        const int32_t *seen = reading->seen + query * reading->seen_stride;
        const float *bias = reading->grid ? gaussian : reading->window + query * reading->seen_stride;
        const int64_t count = reading->seen_stride ? reading->counts[query] : reading->counts[0];
        if (reading->grid)
            focus(reading, query, gaussian);
        multiply_keys(q, keys, seen, count, logits);
        float open = reading->gate ? sigmoid(reading->gate[query * reading->gate_stride]) : reading->kind == READ_GLOBAL;
        if (open > 0.0f)
            softmax(logits, NULL, count, open, 0, weights);
        if (reading->kind != READ_GLOBAL)
            softmax(logits, bias, count, 1.0f - open, open > 0.0f, weights);
        weigh_values(weights, values, seen, count, reading->out + query * reading->out_stride);
    }
}

/* Constant arguments for the usual width let the compiler unroll. */
AVX512 void attend(const struct reading *reading, float *scratch) {
    if (reading->head_width == 64 && reading->halves)
        attend_as(reading, scratch, 64, 1);
    else if (reading->head_width == 64)
        attend_as(reading, scratch, 64, 0);
    else
        attend_as(reading, scratch, reading->head_width, reading->halves);
}
