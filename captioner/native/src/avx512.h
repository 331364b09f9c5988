/* Sixteen floats: AVX-512 with VNNI. The other headers of this kind define the same names; their meaning stands here. */
#ifndef CAPTIONER_SIMD_H
#define CAPTIONER_SIMD_H

#include "native.h"

#include <immintrin.h>

#define TARGET TARGETS("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")
#define INLINE TARGET static inline ALWAYS_INLINE

#define LANES 16         /* floats of a register */
#define ABREAST_FP32 8   /* rows of a tile of sums, which fit in the registers */
#define ABREAST_INT8 8   /* the same in int8 */
#define LEVELS 255       /* largest level minus smallest level of a quantized activation */
#define LOWEST_LEVEL 0

typedef __m512 floats;
typedef __m512i ints;

INLINE __mmask16 first_lanes(int64_t count) {
    return count >= LANES ? 0xFFFF : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

INLINE floats f_all(float x) { return _mm512_set1_ps(x); }
INLINE floats f_zero(void) { return _mm512_setzero_ps(); }
INLINE floats f_load(const float *x) { return _mm512_loadu_ps(x); }
INLINE void f_store(float *x, floats a) { _mm512_storeu_ps(x, a); }

/* The first ``count`` floats of ``x``, then zeros; any count. */
INLINE floats f_load_first(const float *x, int64_t count) { return _mm512_maskz_loadu_ps(first_lanes(count), x); }
INLINE void f_store_first(float *x, floats a, int64_t count) { _mm512_mask_storeu_ps(x, first_lanes(count), a); }

/* The same from fp16. */
INLINE floats f_load_halves(const uint16_t *x, int64_t count) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(count), x));
}

/* The first ``count`` floats of ``a``, then those of ``b``. */
INLINE floats f_first(floats a, floats b, int64_t count) { return _mm512_mask_mov_ps(b, first_lanes(count), a); }

INLINE floats f_add(floats a, floats b) { return _mm512_add_ps(a, b); }
INLINE floats f_sub(floats a, floats b) { return _mm512_sub_ps(a, b); }
INLINE floats f_mul(floats a, floats b) { return _mm512_mul_ps(a, b); }
INLINE floats f_div(floats a, floats b) { return _mm512_div_ps(a, b); }
INLINE floats f_fma(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }   /* a b + c */
INLINE floats f_fnma(floats a, floats b, floats c) { return _mm512_fnmadd_ps(a, b, c); } /* c - a b */
INLINE floats f_abs(floats a) { return _mm512_abs_ps(a); }
INLINE floats f_min(floats a, floats b) { return _mm512_min_ps(a, b); } /* of a number and NaN: b, or NaN */
INLINE floats f_max(floats a, floats b) { return _mm512_max_ps(a, b); }
INLINE floats f_round(floats a) { return _mm512_roundscale_ps(a, 0); } /* to the nearest, ties to even */

/* a 2^n, for whole numbers n from -151 to 129. */
INLINE floats f_scale(floats a, floats n) { return _mm512_scalef_ps(a, n); }

/* a where x < 0, else b. */
INLINE floats f_if_negative(floats x, floats a, floats b) {
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), a);
}

/* A bit for each lane: whether a > b. */
INLINE uint32_t f_greater(floats a, floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }

INLINE float f_sum(floats a) { return _mm512_reduce_add_ps(a); }
INLINE float f_least(floats a) { return _mm512_reduce_min_ps(a); }
INLINE float f_most(floats a) { return _mm512_reduce_max_ps(a); }

/* Per 128 bits: the sums of a, b, c and d, side by side. */
INLINE floats f_four_sums(floats a, floats b, floats c, floats d) {
    floats ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    floats cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
}

/* Sums over the 128-bit parts of two results of f_four_sums or f_join. */
INLINE floats f_join(floats a, floats b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
}

INLINE ints i_load(const int32_t *x) { return _mm512_load_si512(x); } /* aligned */
INLINE void i_store(int32_t *x, ints a) { _mm512_store_si512(x, a); }
INLINE ints i_weights(const void *x) { return _mm512_loadu_si512(x); } /* LANES times four int8 */
INLINE floats f_from(ints a) { return _mm512_cvtepi32_ps(a); }

/* Four levels of a row, in every lane. */
INLINE ints i_spread(const uint8_t *levels) { return _mm512_set1_epi32(*(const int32_t *)levels); }

/* sum + the products of four levels and four weights in each lane. */
INLINE ints i_add(ints sum, ints levels, ints weights) { return _mm512_dpbusd_epi32(sum, levels, weights); }

/* Store the nearest whole numbers as LANES levels. */
INLINE void f_store_levels(uint8_t *levels, floats a) {
    _mm_storeu_si128((__m128i *)levels, _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(a)));
}

#endif
