/* Every function of every level that this CPU supports, against plain C. Prints the levels; exits 1 on a difference. */
#include "native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int captioner_supports(int level);
int captioner_multiply(const struct product *, const float *, int64_t, float *, int64_t, int64_t, int);
void captioner_largest(const float *, int64_t, int64_t, int64_t, float *, int64_t *, int64_t, int);

static const char *const NAMES[] = {"torch", "sse42", "avx2", "avx2-vnni", "avx512", "amx", "neon"};
static int failures;

static float chance(void) { /* about normal, from -4 to 4 */
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)rand() / (float)RAND_MAX * 2 - 1;
    return sum;
}

static float *some(int64_t count) {
    float *x = room_for(count, sizeof(float));
    for (int64_t i = 0; i < count; i++)
        x[i] = chance();
    return x;
}

static void same(const char *what, int level, const float *found, const double *wanted, int64_t count, double tolerance) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(found[i] - wanted[i]) <= tolerance * (1 + fabs(wanted[i])))) {
            printf("%s at %s: %g instead of %g at %d\n", what, NAMES[level], found[i], wanted[i], (int)i);
            failures++;
            return;
        }
}

static double activated(double x, int activation) {
    if (activation == GELU_TANH)
        return 0.5 * x * (1 + tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
    if (activation == GELU_ERF)
        return 0.5 * x * (1 + erf(x * 0.70710678118));
    return activation == RELU && x < 0 ? 0 : x;
}

/* A weight matrix in reading order: place(k, output) in both precisions. */
static void products(int level, int64_t in, int64_t out, int64_t rows, int activation) {
    const int64_t groups = (out + GROUP - 1) / GROUP, depth = padded(in), wide = groups * GROUP;
    float *weight = calloc((size_t)(in * wide), sizeof(float)), *bias = calloc((size_t)wide, sizeof(float));
    float *scale = calloc((size_t)wide, sizeof(float)), *totals = calloc((size_t)wide, sizeof(float));
    int8_t *levels = calloc((size_t)(depth * wide), 1);
    float *x = some(rows * in), *found = room_for(rows * out, sizeof(float));
    double *wanted = malloc((size_t)(rows * out) * sizeof(double));
    for (int64_t o = 0; o < out; o++) {
        float total = 0;
        bias[o] = chance();
        scale[o] = 0.001f * (1 + (float)(o % 7));
        for (int64_t k = 0; k < in; k++) {
            int8_t level_of = (int8_t)(rand() % 255 - 127);
            total += level_of;
            levels[(o / GROUP) * depth * GROUP + (k / 4 * GROUP + o % GROUP) * 4 + k % 4] = level_of;
            weight[((o / GROUP) * in + k) * GROUP + o % GROUP] = (float)level_of * scale[o];
        }
        totals[o] = total * scale[o];
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            double sum = bias[o];
            for (int64_t k = 0; k < in; k++)
                sum += (double)x[r * in + k] * weight[((o / GROUP) * in + k) * GROUP + o % GROUP];
            wanted[r * out + o] = activated(sum, activation);
        }
    struct product fp32 = {.in = in, .out = out, .bias = bias, .weight = weight};
    struct product int8 = {.in = in, .out = out, .bias = bias, .levels = levels, .scale = scale, .totals = totals};
    captioner_multiply(&fp32, x, rows, found, activation, level, 2);
    same("fp32 product", level, found, wanted, rows * out, 1e-5);
    captioner_multiply(&int8, x, rows, found, activation, level, 2);
    same("int8 product", level, found, wanted, rows * out, 0.25);
    free(weight), free(bias), free(scale), free(totals), free(levels), free(wanted), free_room(x), free_room(found);
}

static void norms(int level, int64_t width) {
    const struct kernels kernels = kernels_of(level);
    float *x = some(width), *weight = some(width), *bias = some(width);
    double mean = 0, square = 0, *wanted = malloc((size_t)width * sizeof(double));
    for (int64_t i = 0; i < width; i++)
        mean += x[i] / (double)width;
    for (int64_t i = 0; i < width; i++)
        square += (x[i] - mean) * (x[i] - mean) / (double)width;
    for (int64_t i = 0; i < width; i++)
        wanted[i] = (x[i] - mean) / sqrt(square + 1e-5) * weight[i] + bias[i];
    struct rows out;
    rows_alloc(&out, 1, width, 0);
    kernels.normalize(x, &out, 0, &(struct norm){weight, bias}, 1e-5f);
    same("norm", level, out.values, wanted, width, 1e-5);
    rows_free(&out), free(wanted), free_room(x), free_room(weight), free_room(bias);
}

/* A gated read of a window and of all slots, with fp32 keys and values or those fp16 numbers that are exact. */
static void reads(int level, int64_t width, int64_t slots, int halves) {
    const struct kernels kernels = kernels_of(level);
    float *q = some(width), *keys = some(slots * width), *values = some(slots * width), *out = some(width), gate = 0.3f;
    uint16_t *half_keys = calloc((size_t)(slots * width), 2), *half_values = calloc((size_t)(slots * width), 2);
    int32_t *seen = calloc((size_t)(slots + PANEL), sizeof(int32_t));
    float *window = calloc((size_t)(slots + PANEL), sizeof(float)), *scratch = some(attention_scratch(slots));
    double *wanted = calloc((size_t)width, sizeof(double)), sums[2] = {0}, open = 1 / (1 + exp(-gate));
    for (int64_t i = 0; halves && i < slots * width; i++) { /* 1 + n / 1024, with a sign */
        half_keys[i] = (uint16_t)(0x3C00 + rand() % 1024 + (rand() % 2 << 15));
        half_values[i] = (uint16_t)(0x3C00 + rand() % 1024 + (rand() % 2 << 15));
        keys[i] = (1 + (half_keys[i] & 1023) / 1024.0f) * (half_keys[i] >> 15 ? -1.0f : 1.0f);
        values[i] = (1 + (half_values[i] & 1023) / 1024.0f) * (half_values[i] >> 15 ? -1.0f : 1.0f);
    }
    for (int64_t s = 0; s < slots; s++) {
        seen[s] = (int32_t)s;
        window[s] = s % 3 ? -INFINITY : 0;
    }
    for (int pass = 0; pass < 2; pass++)
        for (int64_t s = 0; s < slots; s++) {
            double logit = 0;
            for (int64_t c = 0; c < width; c++)
                logit += (double)q[c] * keys[s * width + c] / sqrt((double)width);
            double all = exp(logit), local = s % 3 ? 0 : all;
            if (pass == 0)
                sums[0] += all, sums[1] += local;
            for (int64_t c = 0; pass && c < width; c++)
                wanted[c] += (open * all / sums[0] + (1 - open) * local / sums[1]) * values[s * width + c];
        }
    struct reading reading = {.queries = 1,
                              .slots = slots,
                              .head_width = width,
                              .q = q,
                              .keys = halves ? (void *)half_keys : keys,
                              .values = halves ? (void *)half_values : values,
                              .halves = halves,
                              .out = out,
                              .seen = seen,
                              .counts = &slots,
                              .window = window,
                              .kind = READ_MIXED,
                              .gate = &gate};
    kernels.attend(&reading, scratch);
    same(halves ? "fp16 attention" : "attention", level, out, wanted, width, 2e-5);
    free(half_keys), free(half_values), free(seen), free(window), free(wanted);
    free_room(q), free_room(keys), free_room(values), free_room(out), free_room(scratch);
}

static void top(int level, int64_t width, int64_t count) {
    float *x = some(width), *found = some(count);
    int64_t *places = calloc((size_t)count, sizeof(int64_t));
    double *wanted = malloc((size_t)count * sizeof(double));
    for (int64_t i = 0; i < count; i++) {
        int64_t better = 0, place = 0;
        for (place = 0; place < width; place++) {
            better = 0;
            for (int64_t other = 0; other < width; other++)
                better += x[other] > x[place] || (x[other] == x[place] && other < place);
            if (better == i)
                break;
        }
        wanted[i] = x[place];
    }
    captioner_largest(x, 1, width, count, found, places, level, 1);
    same("top k", level, found, wanted, count, 0);
    for (int64_t i = 0; i < count; i++)
        failures += x[places[i]] != found[i];
    double product = 0;
    for (int64_t i = 0; i < width; i++)
        product += (double)x[i] * x[i];
    float dotted = kernels_of(level).dot(x, x, width);
    same("dot", level, &dotted, &product, 1, 1e-5);
    free(places), free(wanted), free_room(x), free_room(found);
}

int main(void) {
    for (int level = SSE42; level <= NEON; level++) {
        if (!captioner_supports(level))
            continue;
        printf("%s\n", NAMES[level]);
        for (int64_t rows = 1; rows <= 60; rows += rows < 10 ? 1 : 25)
            products(level, 100, 65, rows, rows % 4 - 1);
        products(level, 768, 96, 3, GELU_ERF);
        products(level, 5, 1, 9, GELU_TANH);
        for (int64_t width = 1; width < 70; width += 4)
            norms(level, width);
        for (int64_t width = 4; width <= 100; width += 20)
            for (int64_t slots = 1; slots < 40; slots += 6)
                reads(level, width, slots, 0), reads(level, width, slots, 1);
        for (int64_t width = 1; width < 300; width = width * 2 + 3)
            top(level, width, width < 10 ? width : 10);
    }
    return failures != 0;
}
