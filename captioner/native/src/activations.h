/* Exponential function, activations and the output of products, for any level. */
#ifndef CAPTIONER_ACTIVATIONS_H
#define CAPTIONER_ACTIVATIONS_H

/* e^x with a relative error of 1e-7: 2^n times the polynomial of Cephes. NaN stays NaN. */
INLINE floats f_exp(floats x) {
    x = f_min(f_all(89.0f), f_max(f_all(-104.0f), x));
    floats n = f_round(f_mul(x, f_all(1.44269504f)));
    floats r = f_fnma(n, f_all(0.693359375f), x);
    r = f_fnma(n, f_all(-2.12194440e-4f), r);
    floats p = f_all(1.9875691500e-4f);
    p = f_fma(p, r, f_all(1.3981999507e-3f));
    p = f_fma(p, r, f_all(8.3334519073e-3f));
    p = f_fma(p, r, f_all(4.1665795894e-2f));
    p = f_fma(p, r, f_all(1.6666665459e-1f));
    p = f_fma(p, r, f_all(5.0000001201e-1f));
    p = f_fma(p, f_mul(r, r), f_add(r, f_all(1.0f)));
    return f_scale(p, n);
}

/* The tanh form of GELU: x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3). */
INLINE floats f_gelu(floats x) {
    floats inner = f_fma(f_mul(x, x), f_all(0.044715f), f_all(1.0f));
    floats u = f_mul(f_mul(x, inner), f_all(-2.0f * 0.7978845608f));
    return f_div(x, f_add(f_all(1.0f), f_exp(u)));
}

/* GELU by the error function: x * Phi(x); Abramowitz and Stegun 7.1.26, within 1.5e-7 of erf. */
INLINE floats f_gelu_erf(floats x) {
    floats z = f_max(f_all(1e-9f), f_mul(f_abs(x), f_all(0.70710678f))); /* z^4 must not be denormal: five times as slow */
    floats t = f_div(f_all(1.0f), f_fma(z, f_all(0.3275911f), f_all(1.0f)));
    floats p = f_all(1.061405429f);
    p = f_fma(p, t, f_all(-1.453152027f));
    p = f_fma(p, t, f_all(1.421413741f));
    p = f_fma(p, t, f_all(-0.284496736f));
    p = f_fma(p, t, f_all(0.254829592f));
    floats tail = f_mul(f_mul(p, t), f_exp(f_mul(z, f_sub(f_zero(), z))));
    tail = f_mul(tail, f_all(0.5f)); /* Phi(-|x|) */
    return f_mul(x, f_if_negative(x, tail, f_sub(f_all(1.0f), tail)));
}

INLINE floats f_activate(floats x, int64_t activation) {
    if (activation == GELU_TANH)
        return f_gelu(x);
    if (activation == GELU_ERF)
        return f_gelu_erf(x);
    return f_if_negative(x, f_zero(), x); /* NaN stays */
}

/* Write the first ``count`` of a register's columns to the sink. */
INLINE void put(const struct sink *sink, int64_t row, int64_t column, floats values, int64_t count) {
    float *out = sink->out + row * sink->stride + column;
    if (sink->how == ACTIVATE)
        values = f_activate(values, sink->activation);
    else if (sink->how == ADD)
        values = f_fma(values, f_all(sink->factor), f_load_first(out, count));
    f_store_first(out, values, count);
}

#endif
