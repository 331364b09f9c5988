/* Top k of many numbers, and the product of two rows. */

static void find_worst(struct best *best) {
    best->worst = 0;
    for (int64_t i = 1; i < best->count; i++) {
        float value = best->values[i], least = best->values[best->worst];
        if (value < least || (value == least && best->places[i] > best->places[best->worst]))
            best->worst = i;
    }
}

/* Find the top ``count`` of ``x``, unordered; NaN counts as the smallest value. */
TARGET static void find(const float *x, int64_t width, int64_t count, struct best *best) {
    best->count = count;
    for (int64_t i = 0; i < count; i++) {
        best->values[i] = x[i] == x[i] ? x[i] : -INFINITY;
        best->places[i] = i;
    }
    find_worst(best);
    for (int64_t i = count; i < width; i += LANES) {
        floats least = f_all(best->values[best->worst]);
        uint32_t lanes = f_greater(f_first(f_load_first(x + i, width - i), least, width - i), least);
        for (int64_t place = i; lanes; place++, lanes >>= 1) {
            if (!(lanes & 1) || !(x[place] > best->values[best->worst]))
                continue; /* perhaps an earlier lane has raised the threshold */
            best->values[best->worst] = x[place];
            best->places[best->worst] = place;
            find_worst(best);
        }
    }
}

TARGET static float dot(const float *a, const float *b, int64_t width) {
    floats even = f_zero(), odd = even;
    for (int64_t k = 0; k < width; k += 2 * LANES) {
        int64_t left = width - k;
        even = f_fma(f_load_first(a + k, left), f_load_first(b + k, left), even);
        odd = f_fma(f_load_first(a + k + LANES, left - LANES), f_load_first(b + k + LANES, left - LANES), odd);
    }
    return f_sum(f_add(even, odd));
}
