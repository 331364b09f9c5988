/* Attention of one head: a query reads only the slots that it sees.
 *
 * A row sums over its own slots in order, wherever they are in the cache, so its bits do not depend on the other rows.
 */
/* Keys or values as stored: fp32 or fp16. */
struct slots {
    const void *first;
    int64_t width;
    int halves;
};

INLINE floats of_slot(struct slots slots, int64_t slot, int64_t column) {
    int64_t place = slot * slots.width + column;
    if (slots.halves)
        return f_load_halves((const uint16_t *)slots.first + place, slots.width - column);
    return f_load_first((const float *)slots.first + place, slots.width - column);
}

/* Products of q and one key, lane by lane. */
INLINE floats partial(const float *q, struct slots keys, int32_t slot) {
    floats sum = f_zero();
    for (int64_t c = 0; c < keys.width; c += LANES)
        sum = f_fma(f_load_first(q + c, keys.width - c), of_slot(keys, slot, c), sum);
    return sum;
}

INLINE floats four_keys(const float *q, struct slots keys, const int32_t *seen) {
    return f_four_sums(partial(q, keys, seen[0]), partial(q, keys, seen[1]), partial(q, keys, seen[2]),
                       partial(q, keys, seen[3]));
}

/* Products of q and as many keys as a register has lanes. */
INLINE floats some_keys(const float *q, struct slots keys, const int32_t *seen) {
#if LANES == 16
    return f_join(f_join(four_keys(q, keys, seen), four_keys(q, keys, seen + 4)),
                  f_join(four_keys(q, keys, seen + 8), four_keys(q, keys, seen + 12)));
#elif LANES == 8
    return f_join(four_keys(q, keys, seen), four_keys(q, keys, seen + 4));
#else
    return four_keys(q, keys, seen);
#endif
}

/* Products of q and the keys ``seen``, padded to whole panels, divided by the square root of the width. */
INLINE void multiply_keys(const float *q, struct slots keys, const int32_t *seen, int64_t count, float *logits) {
    floats scale = f_all(1.0f / sqrtf((float)keys.width));
    for (int64_t s = 0; s < count; s += LANES)
        f_store(logits + s, f_mul(some_keys(q, keys, seen + s), scale));
}

/* The weighted sum of the values ``seen``: four registers of columns, with separate sums for even and odd slots. */
INLINE void weigh_values(const float *weights, struct slots values, const int32_t *seen, int64_t count, float *out) {
    for (int64_t c = 0; c < values.width; c += 4 * LANES) {
        floats a0 = f_zero(), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        for (int64_t s = 0; s < count; s += 2) {
            floats even = f_all(weights[s]);
            a0 = f_fma(even, of_slot(values, seen[s], c), a0);
            a1 = f_fma(even, of_slot(values, seen[s], c + LANES), a1);
            a2 = f_fma(even, of_slot(values, seen[s], c + 2 * LANES), a2);
            a3 = f_fma(even, of_slot(values, seen[s], c + 3 * LANES), a3);
            floats odd = f_all(weights[s + 1]); /* the weight after the last one is zero */
            b0 = f_fma(odd, of_slot(values, seen[s + 1], c), b0);
            b1 = f_fma(odd, of_slot(values, seen[s + 1], c + LANES), b1);
            b2 = f_fma(odd, of_slot(values, seen[s + 1], c + 2 * LANES), b2);
            b3 = f_fma(odd, of_slot(values, seen[s + 1], c + 3 * LANES), b3);
        }
        f_store_first(out + c, f_add(a0, b0), values.width - c);
        f_store_first(out + c + LANES, f_add(a1, b1), values.width - c - LANES);
        f_store_first(out + c + 2 * LANES, f_add(a2, b2), values.width - c - 2 * LANES);
        f_store_first(out + c + 3 * LANES, f_add(a3, b3), values.width - c - 3 * LANES);
    }
}

INLINE floats biased(const float *logits, const float *bias, int64_t count) {
    floats values = f_load_first(logits, count);
    return bias ? f_add(values, f_load_first(bias, count)) : values;
}

/* ``weights`` = (or += if ``add``) share * softmax(logits + bias); zeros up to a whole register. ``bias`` may be NULL. */
TARGET static void softmax(const float *logits, const float *bias, int64_t count, float share, int add, float *weights) {
    floats most = f_all(-INFINITY), sum = f_zero();
    for (int64_t s = 0; s < count; s += LANES)
        most = f_max(most, f_first(biased(logits + s, bias ? bias + s : NULL, count - s), most, count - s));
    most = f_all(f_most(most));
    for (int64_t s = 0; s < count; s += LANES) {
        floats values = f_exp(f_sub(biased(logits + s, bias ? bias + s : NULL, count - s), most));
        sum = f_add(sum, f_first(values, f_zero(), count - s));
    }
    floats factor = f_all(share / f_sum(sum));
    for (int64_t s = 0; s < count; s += LANES) {
        floats values = f_exp(f_sub(biased(logits + s, bias ? bias + s : NULL, count - s), most));
        values = f_first(f_mul(values, factor), f_zero(), count - s);
        f_store(weights + s, add ? f_add(values, f_load(weights + s)) : values);
    }
}

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
static float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

/* The Gaussian around the point of a query: -d^2 / 2 sigma^2 for each patch, 0 for the tokens before them. */
TARGET static void focus(const struct reading *reading, int64_t query, float *bias) {
    const struct grid *grid = reading->grid;
    const float *point = reading->point + 2 * query * reading->gate_stride;
    floats row = f_all(sigmoid(point[0])), column = f_all(sigmoid(point[1]));
    float spread = softplus(reading->spread[query * reading->gate_stride]) + 0.02f;
    floats scale = f_all(-0.5f / (spread * spread));
    for (int64_t s = 0; s < grid->before; s++)
        bias[s] = 0.0f;
    for (int64_t s = 0, count = reading->slots - grid->before; s < count; s += LANES) {
        floats down = f_sub(f_load_first(grid->rows + s, count - s), row);
        floats right = f_sub(f_load_first(grid->columns + s, count - s), column);
        floats square = f_fma(down, down, f_mul(right, right));
        f_store_first(bias + grid->before + s, f_mul(square, scale), count - s);
    }
}

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
TARGET static void attend(const struct reading *reading, float *scratch) {
    if (reading->head_width == 64 && reading->halves)
        attend_as(reading, scratch, 64, 1);
    else if (reading->head_width == 64)
        attend_as(reading, scratch, 64, 0);
    else
        attend_as(reading, scratch, reading->head_width, reading->halves);
}
