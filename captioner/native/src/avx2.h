/* Eight floats: AVX2 with FMA, and with VNNI if AVX2_WITH_VNNI is defined. avx512.h explains the names. */
#ifndef CAPTIONER_SIMD_H
#define CAPTIONER_SIMD_H

#include "native.h"

#include <immintrin.h>

#ifdef AVX2_WITH_VNNI
#define TARGET TARGETS("avx2,fma,f16c,avxvnni")
#else
#define TARGET TARGETS("avx2,fma,f16c")
#endif
#define INLINE TARGET static inline ALWAYS_INLINE

#define LANES 8
#define ABREAST_FP32 4
#ifdef AVX2_WITH_VNNI
#define ABREAST_INT8 4
#define LEVELS 255
#else
#define ABREAST_INT8 3
#define LEVELS 127 /* the sums of two products must fit in 16 bits */
#endif
#define LOWEST_LEVEL 0

typedef __m256 floats;
typedef __m256i ints;

INLINE __m256i first_lanes(int64_t count) {
    int32_t few = count >= LANES ? LANES : count <= 0 ? 0 : (int32_t)count;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(few), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE floats f_all(float x) { return _mm256_set1_ps(x); }
INLINE floats f_zero(void) { return _mm256_setzero_ps(); }
INLINE floats f_load(const float *x) { return _mm256_loadu_ps(x); }
INLINE void f_store(float *x, floats a) { _mm256_storeu_ps(x, a); }

INLINE floats f_load_first(const float *x, int64_t count) {
    return count >= LANES ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, first_lanes(count));
}

INLINE void f_store_first(float *x, floats a, int64_t count) {
    if (count >= LANES)
        _mm256_storeu_ps(x, a);
    else
        _mm256_maskstore_ps(x, first_lanes(count), a);
}

INLINE floats f_load_halves(const uint16_t *x, int64_t count) {
    uint16_t some[LANES] = {0};
    if (count < LANES) {
        for (int64_t i = 0; i < count; i++)
            some[i] = x[i];
        x = some;
    }
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}

INLINE floats f_first(floats a, floats b, int64_t count) {
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(first_lanes(count)));
}

INLINE floats f_add(floats a, floats b) { return _mm256_add_ps(a, b); }
INLINE floats f_sub(floats a, floats b) { return _mm256_sub_ps(a, b); }
INLINE floats f_mul(floats a, floats b) { return _mm256_mul_ps(a, b); }
INLINE floats f_div(floats a, floats b) { return _mm256_div_ps(a, b); }
INLINE floats f_fma(floats a, floats b, floats c) { return _mm256_fmadd_ps(a, b, c); }
INLINE floats f_fnma(floats a, floats b, floats c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE floats f_abs(floats a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE floats f_min(floats a, floats b) { return _mm256_min_ps(a, b); }
INLINE floats f_max(floats a, floats b) { return _mm256_max_ps(a, b); }
INLINE floats f_round(floats a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

INLINE floats f_scale(floats a, floats n) { /* in two steps, because 2^-151 is no float */
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), rest = _mm256_sub_epi32(whole, half);
    __m256i bias = _mm256_set1_epi32(127);
    floats first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    floats second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, first), second);
}

INLINE floats f_if_negative(floats x, floats a, floats b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}

INLINE uint32_t f_greater(floats a, floats b) { return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)); }

INLINE __m128 half_of(floats a, int upper) {
    return upper ? _mm256_extractf128_ps(a, 1) : _mm256_castps256_ps128(a);
}

INLINE float f_sum(floats a) {
    __m128 sum = _mm_add_ps(half_of(a, 0), half_of(a, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

INLINE float f_least(floats a) {
    __m128 least = _mm_min_ps(half_of(a, 0), half_of(a, 1));
    least = _mm_min_ps(least, _mm_movehl_ps(least, least));
    return _mm_cvtss_f32(_mm_min_ss(least, _mm_movehdup_ps(least)));
}

INLINE float f_most(floats a) {
    __m128 most = _mm_max_ps(half_of(a, 0), half_of(a, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}

INLINE floats f_four_sums(floats a, floats b, floats c, floats d) {
    floats ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    floats cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    __m256d low = _mm256_unpacklo_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    __m256d high = _mm256_unpackhi_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    return _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high));
}

INLINE floats f_join(floats a, floats b) {
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

INLINE ints i_load(const int32_t *x) { return _mm256_load_si256((const __m256i *)x); }
INLINE void i_store(int32_t *x, ints a) { _mm256_store_si256((__m256i *)x, a); }
INLINE ints i_weights(const void *x) { return _mm256_loadu_si256((const __m256i *)x); }
INLINE floats f_from(ints a) { return _mm256_cvtepi32_ps(a); }
INLINE ints i_spread(const uint8_t *levels) { return _mm256_set1_epi32(*(const int32_t *)levels); }

INLINE ints i_add(ints sum, ints levels, ints weights) {
#ifdef AVX2_WITH_VNNI
    return _mm256_dpbusd_avx_epi32(sum, levels, weights);
#else
    ints pairs = _mm256_maddubs_epi16(levels, weights);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

INLINE void f_store_levels(uint8_t *levels, floats a) {
    __m256i whole = _mm256_cvtps_epi32(a);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i *)levels, _mm_packus_epi16(words, words));
}

#endif
