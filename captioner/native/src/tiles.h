/* Products of all rows by groups of weights; fp32.h and int8.h each include this once, after their definitions of:
 *
 * OF(name): the name with a suffix. INPUT: the type of a row's elements; AT_ONCE of them meet 4 * GROUP bytes of
 * weights. SUM: the type of an output. ABREAST: rows whose sums fit in the registers. ``struct OF(trio)``: three
 * registers, with operations ``load``, ``save``, ``weights``, ``spread`` and ``add``; ``OF(put)``: the output.
 */

enum {
    OF(SPAN) = 128,                        /* steps whose weights stay in the L1 cache while all rows read them */
    OF(WIDE) = 3 * LANES,                  /* outputs of a trio */
    OF(PARTS) = GROUP / OF(WIDE),          /* trios of a group */
    OF(LINES) = (3 + OF(PARTS) - 1) / OF(PARTS), /* cache lines that a step prefetches */
};

/* Add ``R`` rows, starting at ``x`` and ``width`` apart, to their sums. The registers have names because gcc also keeps
 * an array in memory. */
INLINE void OF(tile)(const int R, struct run run, const INPUT *x, int64_t width, SUM *sums) {
    const char *weight = run.weight;
    const char *ahead = run.ahead;
    struct OF(trio) s0 = OF(load)(sums), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    if (R > 1) s1 = OF(load)(sums + 1 * GROUP);
    if (R > 2) s2 = OF(load)(sums + 2 * GROUP);
    if (R > 3) s3 = OF(load)(sums + 3 * GROUP);
    if (R > 4) s4 = OF(load)(sums + 4 * GROUP);
    if (R > 5) s5 = OF(load)(sums + 5 * GROUP);
    if (R > 6) s6 = OF(load)(sums + 6 * GROUP);
    if (R > 7) s7 = OF(load)(sums + 7 * GROUP);
    for (int64_t k = 0; k < run.count; k++, x += AT_ONCE, weight += 4 * GROUP, ahead += run.step) {
        struct OF(trio) w = OF(weights)(weight);
        PREFETCH(ahead);
        if (OF(LINES) > 1) PREFETCH(ahead + 64);
        if (OF(LINES) > 2) PREFETCH(ahead + 128);
        s0 = OF(add)(s0, OF(spread)(x), w);
        if (R > 1) s1 = OF(add)(s1, OF(spread)(x + width), w);
        if (R > 2) s2 = OF(add)(s2, OF(spread)(x + 2 * width), w);
        if (R > 3) s3 = OF(add)(s3, OF(spread)(x + 3 * width), w);
        if (R > 4) s4 = OF(add)(s4, OF(spread)(x + 4 * width), w);
        if (R > 5) s5 = OF(add)(s5, OF(spread)(x + 5 * width), w);
        if (R > 6) s6 = OF(add)(s6, OF(spread)(x + 6 * width), w);
        if (R > 7) s7 = OF(add)(s7, OF(spread)(x + 7 * width), w);
    }
    OF(save)(sums, s0);
    if (R > 1) OF(save)(sums + 1 * GROUP, s1);
    if (R > 2) OF(save)(sums + 2 * GROUP, s2);
    if (R > 3) OF(save)(sums + 3 * GROUP, s3);
    if (R > 4) OF(save)(sums + 4 * GROUP, s4);
    if (R > 5) OF(save)(sums + 5 * GROUP, s5);
    if (R > 6) OF(save)(sums + 6 * GROUP, s6);
    if (R > 7) OF(save)(sums + 7 * GROUP, s7);
}

/* Constant arguments make each case a loop without branches. */
TARGET static void OF(tiles)(int64_t rows, struct run run, const INPUT *x, int64_t width, SUM *sums) {
    switch (rows < ABREAST ? rows : ABREAST) {
    case 1: OF(tile)(1, run, x, width, sums); break;
    case 2: OF(tile)(2, run, x, width, sums); break;
    case 3: OF(tile)(3, run, x, width, sums); break;
#if ABREAST > 4
    case 5: OF(tile)(5, run, x, width, sums); break;
    case 6: OF(tile)(6, run, x, width, sums); break;
    case 7: OF(tile)(7, run, x, width, sums); break;
    case 8: OF(tile)(8, run, x, width, sums); break;
#endif
    default: OF(tile)(4, run, x, width, sums);
    }
}

/* Multiply up to TOGETHER rows, starting at ``x``, by a group of weights; prefetches from ``ahead`` as much as it reads. */
TARGET static void OF(sum_group)(const char *weight, int64_t steps, const char *ahead, const INPUT *x, int64_t width,
                                 int64_t count, SUM *sums) {
    const int64_t passes = (count + ABREAST - 1) / ABREAST * OF(PARTS), span = passes == 1 ? steps : OF(SPAN);
    memset(sums, 0, (size_t)count * GROUP * sizeof(SUM));
    for (int64_t k = 0; k < steps; k += span) {
        struct run run = {NULL, steps - k < span ? steps - k : span, ahead, 4 * GROUP / passes};
        for (int64_t r = 0; r < count; r += ABREAST)
            for (int64_t column = 0; column < GROUP; column += OF(WIDE), run.ahead += run.count * run.step) {
                run.weight = weight + 4 * (k * GROUP + column);
                OF(tiles)(count - r, run, x + r * width + k * AT_ONCE, width, sums + r * GROUP + column);
            }
        ahead += 4 * GROUP * run.count;
    }
}

TARGET static void OF(multiply)(const struct product *product, const struct rows *rows, const struct sink *sink,
                                struct share part, const void *next) {
    _Alignas(64) SUM sums[TOGETHER * GROUP];
    const int64_t steps = OF(steps)(product), width = OF(width)(rows);
    for (int64_t row = 0; row < rows->count; row += TOGETHER) {
        const int64_t count = rows->count - row < TOGETHER ? rows->count - row : TOGETHER;
        for (int64_t group = part.first; group < part.end; group++) {
            const char *weight = OF(first_weight)(product) + group * steps * 4 * GROUP;
            const char *ahead = group + 1 == part.end ? next : weight + steps * 4 * GROUP;
            OF(sum_group)(weight, steps, ahead, OF(first_row)(rows) + row * width, width, count, sums);
            for (int64_t r = 0; r < count; r++)
                OF(put)(product, rows, sink, row + r, group * GROUP, sums + r * GROUP);
        }
    }
}

#undef OF
#undef INPUT
#undef SUM
#undef AT_ONCE
#undef ABREAST
