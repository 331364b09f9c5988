/* Parts of registers of four floats, without masks: copies of the first ``count``. sse42.h and neon.h include this. */

INLINE floats f_load_first(const float *x, int64_t count) {
    float some[LANES] = {0};
    for (int64_t i = 0; i < count && count < LANES; i++)
        some[i] = x[i];
    return f_load(count >= LANES ? x : some);
}

INLINE void f_store_first(float *x, floats a, int64_t count) {
    float some[LANES];
    f_store(count >= LANES ? x : some, a);
    for (int64_t i = 0; i < count && count < LANES; i++)
        x[i] = some[i];
}

/* The address of LANES halves: ``x``, or ``some``, zeros, with the first ``count`` of them. */
INLINE const uint16_t *whole_halves(const uint16_t *x, int64_t count, uint16_t *some) {
    for (int64_t i = 0; i < count && count < LANES; i++)
        some[i] = x[i];
    return count >= LANES ? x : some;
}
