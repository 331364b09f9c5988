/* Attention of one head: a query reads the slots it sees, and only those.
 *
 * A row's sums run over its own slots in their order, wherever in the cache they lie and whoever lies between: it has the
 * same bits in any company.
 */
#include "lanes.h"

/* Per lane of 128 bits: sums of a, b, c and d, side by side. */
INLINE __m512 four_sums(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
}

/* Of two of these, or of two of what this gives: sums over lanes of 128 bits. */
INLINE __m512 over_lanes(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
}

/* Products of q and one key, lane by lane. */
INLINE __m512 partial(const float *q, const float *key, int64_t width) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += PANEL) {
        __mmask16 lanes = first_lanes(width - c);
        sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, q + c), _mm512_maskz_loadu_ps(lanes, key + c), sum);
    }
    return sum;
}

INLINE __m512 four_keys(const float *q, const float *keys, const int32_t *seen, int64_t width) {
    return four_sums(partial(q, keys + seen[0] * width, width), partial(q, keys + seen[1] * width, width),
                     partial(q, keys + seen[2] * width, width), partial(q, keys + seen[3] * width, width));
}

/* q times the keys ``seen``, padded to whole panels, divided by the root of the width. */
INLINE void multiply_keys(const float *q, const float *keys, const int32_t *seen, int64_t count, int64_t width,
                          float *logits) {
    __m512 scale = _mm512_set1_ps(1.0f / sqrtf((float)width));
    for (int64_t s = 0; s < count; s += PANEL) {
        __m512 first = over_lanes(four_keys(q, keys, seen + s, width), four_keys(q, keys, seen + s + 4, width));
        __m512 second = over_lanes(four_keys(q, keys, seen + s + 8, width), four_keys(q, keys, seen + s + 12, width));
        _mm512_storeu_ps(logits + s, _mm512_mul_ps(over_lanes(first, second), scale));
    }
}

/* The values ``seen``, weighted: up to 64 columns of them at once, odd and even slots apart for more sums at a time. */
INLINE void weigh_values(const float *weights, const float *values, const int32_t *seen, int64_t count, int64_t width,
                         float *out) {
    for (int64_t c = 0; c < width; c += 4 * PANEL) {
        const __mmask16 lanes[] = {first_lanes(width - c), first_lanes(width - c - PANEL),
                                   first_lanes(width - c - 2 * PANEL), first_lanes(width - c - 3 * PANEL)};
        __m512 a0 = _mm512_setzero_ps(), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        for (int64_t s = 0; s < count; s += 2) {
            __m512 even = _mm512_set1_ps(weights[s]);
            const float *value = values + seen[s] * width + c;
            a0 = _mm512_fmadd_ps(even, _mm512_maskz_loadu_ps(lanes[0], value), a0);
            a1 = _mm512_fmadd_ps(even, _mm512_maskz_loadu_ps(lanes[1], value + PANEL), a1);
            a2 = _mm512_fmadd_ps(even, _mm512_maskz_loadu_ps(lanes[2], value + 2 * PANEL), a2);
            a3 = _mm512_fmadd_ps(even, _mm512_maskz_loadu_ps(lanes[3], value + 3 * PANEL), a3);
            __m512 odd = _mm512_set1_ps(weights[s + 1]); /* behind the last one there is a weight of zero */
            value = values + seen[s + 1] * width + c;
            b0 = _mm512_fmadd_ps(odd, _mm512_maskz_loadu_ps(lanes[0], value), b0);
            b1 = _mm512_fmadd_ps(odd, _mm512_maskz_loadu_ps(lanes[1], value + PANEL), b1);
            b2 = _mm512_fmadd_ps(odd, _mm512_maskz_loadu_ps(lanes[2], value + 2 * PANEL), b2);
            b3 = _mm512_fmadd_ps(odd, _mm512_maskz_loadu_ps(lanes[3], value + 3 * PANEL), b3);
        }
        _mm512_mask_storeu_ps(out + c, lanes[0], _mm512_add_ps(a0, b0));
        _mm512_mask_storeu_ps(out + c + PANEL, lanes[1], _mm512_add_ps(a1, b1));
        _mm512_mask_storeu_ps(out + c + 2 * PANEL, lanes[2], _mm512_add_ps(a2, b2));
        _mm512_mask_storeu_ps(out + c + 3 * PANEL, lanes[3], _mm512_add_ps(a3, b3));
    }
}

/* ``weights`` = share * softmax(logits + bias), added where ``add``; zeros up to a whole panel. ``bias`` may be NULL. */
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

/* The Gaussian around the point of a query: -d^2 / 2 sigma^2 for each patch, 0 for what stands before them. */
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

AVX512 void attend(const struct reading *reading, float *scratch) {
    const int64_t room = reading->slots + PANEL, width = reading->head_width;
    float *logits = scratch, *gaussian = logits + room, *weights = gaussian + room;
    for (int64_t query = 0; query < reading->queries; query++) {
        const float *q = reading->q + query * reading->q_stride;
        float *out = reading->out + query * reading->out_stride;
        const int32_t *seen = reading->seen + query * reading->seen_stride;
        const float *bias = reading->grid ? gaussian : reading->window + query * reading->seen_stride;
        const int64_t count = reading->seen_stride ? reading->counts[query] : reading->counts[0];
        if (reading->grid)
            focus(reading, query, gaussian);
        if (width == 64)
            multiply_keys(q, reading->keys, seen, count, 64, logits);
        else
            multiply_keys(q, reading->keys, seen, count, width, logits);
        float open = reading->gate ? sigmoid(reading->gate[query * reading->gate_stride]) : reading->kind == READ_GLOBAL;
        if (open > 0.0f)
            softmax(logits, NULL, count, open, 0, weights);
        if (reading->kind != READ_GLOBAL)
            softmax(logits, bias, count, 1.0f - open, open > 0.0f, weights);
        if (width == 64)
            weigh_values(weights, reading->values, seen, count, 64, out);
        else
            weigh_values(weights, reading->values, seen, count, width, out);
    }
}
