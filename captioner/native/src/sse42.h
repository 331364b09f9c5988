/* Four floats: SSE4.2, for CPUs from 2008 on. It has no FMA. avx512.h explains the names. */
#ifndef CAPTIONER_SIMD_H
#define CAPTIONER_SIMD_H

#include "native.h"

#include <nmmintrin.h>
#include <string.h>

#define TARGET TARGETS("sse4.2")
#define INLINE TARGET static inline ALWAYS_INLINE

#define LANES 4
#define ABREAST_FP32 3
#define ABREAST_INT8 3
#define LEVELS 127
#define LOWEST_LEVEL 0

typedef __m128 floats;
typedef __m128i ints;

INLINE floats f_all(float x) { return _mm_set1_ps(x); }
INLINE floats f_zero(void) { return _mm_setzero_ps(); }
INLINE floats f_load(const float *x) { return _mm_loadu_ps(x); }
INLINE void f_store(float *x, floats a) { _mm_storeu_ps(x, a); }

#include "four.h"

/* Exponent and mantissa become those of a float 2^-112 times as large, which a product corrects. */
INLINE floats f_load_halves(const uint16_t *x, int64_t count) {
    uint16_t some[LANES] = {0};
    __m128i halves = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)whole_halves(x, count, some)));
    __m128i sign = _mm_slli_epi32(_mm_and_si128(halves, _mm_set1_epi32(0x8000)), 16);
    __m128i small = _mm_slli_epi32(_mm_and_si128(halves, _mm_set1_epi32(0x7FFF)), 13);
    floats size = _mm_mul_ps(_mm_castsi128_ps(small), _mm_castsi128_ps(_mm_set1_epi32((127 + 112) << 23)));
    floats infinite = _mm_and_ps(_mm_cmpge_ps(size, _mm_set1_ps(65536.0f)), _mm_castsi128_ps(_mm_set1_epi32(0x7F800000)));
    return _mm_or_ps(_mm_or_ps(size, infinite), _mm_castsi128_ps(sign));
}

INLINE floats f_first(floats a, floats b, int64_t count) {
    int32_t few = count >= LANES ? LANES : count <= 0 ? 0 : (int32_t)count;
    __m128i lanes = _mm_cmpgt_epi32(_mm_set1_epi32(few), _mm_setr_epi32(0, 1, 2, 3));
    return _mm_blendv_ps(b, a, _mm_castsi128_ps(lanes));
}

INLINE floats f_add(floats a, floats b) { return _mm_add_ps(a, b); }
INLINE floats f_sub(floats a, floats b) { return _mm_sub_ps(a, b); }
INLINE floats f_mul(floats a, floats b) { return _mm_mul_ps(a, b); }
INLINE floats f_div(floats a, floats b) { return _mm_div_ps(a, b); }
INLINE floats f_fma(floats a, floats b, floats c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
INLINE floats f_fnma(floats a, floats b, floats c) { return _mm_sub_ps(c, _mm_mul_ps(a, b)); }
INLINE floats f_abs(floats a) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), a); }
INLINE floats f_min(floats a, floats b) { return _mm_min_ps(a, b); }
INLINE floats f_max(floats a, floats b) { return _mm_max_ps(a, b); }
INLINE floats f_round(floats a) { return _mm_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

INLINE floats f_scale(floats a, floats n) { /* in two steps, because 2^-151 is no float */
    __m128i whole = _mm_cvtps_epi32(n), half = _mm_srai_epi32(whole, 1), rest = _mm_sub_epi32(whole, half);
    __m128i bias = _mm_set1_epi32(127);
    floats first = _mm_castsi128_ps(_mm_slli_epi32(_mm_add_epi32(half, bias), 23));
    floats second = _mm_castsi128_ps(_mm_slli_epi32(_mm_add_epi32(rest, bias), 23));
    return _mm_mul_ps(_mm_mul_ps(a, first), second);
}

INLINE floats f_if_negative(floats x, floats a, floats b) {
    return _mm_blendv_ps(b, a, _mm_cmplt_ps(x, _mm_setzero_ps()));
}

INLINE uint32_t f_greater(floats a, floats b) { return (uint32_t)_mm_movemask_ps(_mm_cmpgt_ps(a, b)); }

INLINE float f_sum(floats a) {
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

INLINE float f_least(floats a) {
    a = _mm_min_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_min_ss(a, _mm_movehdup_ps(a)));
}

INLINE float f_most(floats a) {
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}

INLINE floats f_four_sums(floats a, floats b, floats c, floats d) {
    floats ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    floats cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}

INLINE ints i_load(const int32_t *x) { return _mm_load_si128((const __m128i *)x); }
INLINE void i_store(int32_t *x, ints a) { _mm_store_si128((__m128i *)x, a); }
INLINE ints i_weights(const void *x) { return _mm_loadu_si128((const __m128i *)x); }
INLINE floats f_from(ints a) { return _mm_cvtepi32_ps(a); }
INLINE ints i_spread(const uint8_t *levels) { return _mm_set1_epi32(*(const int32_t *)levels); }

INLINE ints i_add(ints sum, ints levels, ints weights) {
    ints pairs = _mm_maddubs_epi16(levels, weights);
    return _mm_add_epi32(sum, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}

INLINE void f_store_levels(uint8_t *levels, floats a) {
    __m128i words = _mm_packs_epi32(_mm_cvtps_epi32(a), _mm_setzero_si128());
    int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(levels, &four, sizeof four);
}

#endif
