/* Up to eight rows by a group of outputs; fp32.c and vnni.c each include this once, after their definitions of:
 *
 * INPUT: the type of a row's elements; AT_ONCE of them meet 4 * GROUP bytes of weights. SUM: the type of an output.
 * ``struct trio``: three registers, with operations ``load``, ``save``, ``weights``, ``spread`` and ``add``.
 */

/* Add ``R`` rows, starting at ``x`` and ``width`` apart, to their sums. The registers have names because gcc also keeps
 * an array in memory. */
INLINE void tile(const int R, struct run run, const INPUT *x, int64_t width, SUM *sums) {
    const char *weight = run.weight;
    const char *ahead = run.ahead;
    struct trio s0 = load(sums), s1, s2, s3, s4, s5, s6, s7;
    if (R > 1) s1 = load(sums + 1 * GROUP);
    if (R > 2) s2 = load(sums + 2 * GROUP);
    if (R > 3) s3 = load(sums + 3 * GROUP);
    if (R > 4) s4 = load(sums + 4 * GROUP);
    if (R > 5) s5 = load(sums + 5 * GROUP);
    if (R > 6) s6 = load(sums + 6 * GROUP);
    if (R > 7) s7 = load(sums + 7 * GROUP);
    for (int64_t k = 0; k < run.count; k++, x += AT_ONCE, weight += 4 * GROUP, ahead += run.step) {
        struct trio w = weights(weight);
        _mm_prefetch(ahead, _MM_HINT_T1);
        _mm_prefetch(ahead + 64, _MM_HINT_T1);
        _mm_prefetch(ahead + 128, _MM_HINT_T1);
        s0 = add(s0, spread(x), w);
        if (R > 1) s1 = add(s1, spread(x + width), w);
        if (R > 2) s2 = add(s2, spread(x + 2 * width), w);
        if (R > 3) s3 = add(s3, spread(x + 3 * width), w);
        if (R > 4) s4 = add(s4, spread(x + 4 * width), w);
        if (R > 5) s5 = add(s5, spread(x + 5 * width), w);
        if (R > 6) s6 = add(s6, spread(x + 6 * width), w);
        if (R > 7) s7 = add(s7, spread(x + 7 * width), w);
    }
    save(sums, s0);
    if (R > 1) save(sums + 1 * GROUP, s1);
    if (R > 2) save(sums + 2 * GROUP, s2);
    if (R > 3) save(sums + 3 * GROUP, s3);
    if (R > 4) save(sums + 4 * GROUP, s4);
    if (R > 5) save(sums + 5 * GROUP, s5);
    if (R > 6) save(sums + 6 * GROUP, s6);
    if (R > 7) save(sums + 7 * GROUP, s7);
}

/* Constant arguments make each case a loop without branches. */
AVX512 static void tiles(int64_t rows, struct run run, const INPUT *x, int64_t width, SUM *sums) {
    switch (rows) {
    case 1: tile(1, run, x, width, sums); break;
    case 2: tile(2, run, x, width, sums); break;
    case 3: tile(3, run, x, width, sums); break;
    case 4: tile(4, run, x, width, sums); break;
    case 5: tile(5, run, x, width, sums); break;
    case 6: tile(6, run, x, width, sums); break;
    case 7: tile(7, run, x, width, sums); break;
    default: tile(8, run, x, width, sums);
    }
}
