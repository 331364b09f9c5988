/* Four floats: NEON with dot products (ARMv8.2: Apple M1, Raspberry Pi 5, Graviton 2). avx512.h explains the names. */
#ifndef CAPTIONER_SIMD_H
#define CAPTIONER_SIMD_H

#include "native.h"

#include <arm_neon.h>
#include <string.h>

#ifdef __clang__
#define TARGET TARGETS("dotprod")
#else
#define TARGET TARGETS("arch=armv8.2-a+dotprod")
#endif
#define INLINE TARGET static inline ALWAYS_INLINE

#define LANES 4
#define ABREAST_FP32 8
#define ABREAST_INT8 8
#define LEVELS 255
#define LOWEST_LEVEL (-128)

typedef float32x4_t floats;
typedef int32x4_t ints;

INLINE floats f_all(float x) { return vdupq_n_f32(x); }
INLINE floats f_zero(void) { return vdupq_n_f32(0.0f); }
INLINE floats f_load(const float *x) { return vld1q_f32(x); }
INLINE void f_store(float *x, floats a) { vst1q_f32(x, a); }

#include "four.h"

INLINE floats f_load_halves(const uint16_t *x, int64_t count) {
    uint16_t some[LANES] = {0};
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(whole_halves(x, count, some))));
}

INLINE floats f_first(floats a, floats b, int64_t count) {
    static const int32_t places[LANES] = {0, 1, 2, 3};
    int32_t few = count >= LANES ? LANES : count <= 0 ? 0 : (int32_t)count;
    return vbslq_f32(vcltq_s32(vld1q_s32(places), vdupq_n_s32(few)), a, b);
}

INLINE floats f_add(floats a, floats b) { return vaddq_f32(a, b); }
INLINE floats f_sub(floats a, floats b) { return vsubq_f32(a, b); }
INLINE floats f_mul(floats a, floats b) { return vmulq_f32(a, b); }
INLINE floats f_div(floats a, floats b) { return vdivq_f32(a, b); }
INLINE floats f_fma(floats a, floats b, floats c) { return vfmaq_f32(c, a, b); }
INLINE floats f_fnma(floats a, floats b, floats c) { return vfmsq_f32(c, a, b); }
INLINE floats f_abs(floats a) { return vabsq_f32(a); }
INLINE floats f_min(floats a, floats b) { return vminq_f32(a, b); }
INLINE floats f_max(floats a, floats b) { return vmaxq_f32(a, b); }
INLINE floats f_round(floats a) { return vrndnq_f32(a); }

INLINE floats f_scale(floats a, floats n) { /* in two steps, because 2^-151 is no float */
    int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1), rest = vsubq_s32(whole, half);
    int32x4_t bias = vdupq_n_s32(127);
    floats first = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    floats second = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    return vmulq_f32(vmulq_f32(a, first), second);
}

INLINE floats f_if_negative(floats x, floats a, floats b) { return vbslq_f32(vcltzq_f32(x), a, b); }

INLINE uint32_t f_greater(floats a, floats b) {
    static const uint32_t bits[LANES] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgtq_f32(a, b), vld1q_u32(bits)));
}

INLINE float f_sum(floats a) { return vaddvq_f32(a); }
INLINE float f_least(floats a) { return vminvq_f32(a); }
INLINE float f_most(floats a) { return vmaxvq_f32(a); }
INLINE floats f_four_sums(floats a, floats b, floats c, floats d) { return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)); }

INLINE ints i_load(const int32_t *x) { return vld1q_s32(x); }
INLINE void i_store(int32_t *x, ints a) { vst1q_s32(x, a); }
INLINE ints i_weights(const void *x) { return vreinterpretq_s32_s8(vld1q_s8(x)); }
INLINE floats f_from(ints a) { return vcvtq_f32_s32(a); }
INLINE ints i_spread(const uint8_t *levels) { return vld1q_dup_s32((const int32_t *)levels); }

INLINE ints i_add(ints sum, ints levels, ints weights) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(levels), vreinterpretq_s8_s32(weights));
}

INLINE void f_store_levels(uint8_t *levels, floats a) {
    int16x4_t words = vqmovn_s32(vcvtnq_s32_f32(a));
    int32_t four = vget_lane_s32(vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(words, words))), 0);
    memcpy(levels, &four, sizeof four);
}

#endif
