/* Declarations shared by the files of this library.
 *
 * Python builds the plan of a step (captioner/native/plans.py mirrors the structs of plan.h) and checks it; the C code
 * trusts shapes, types and pointers. There is no static data, so threads may run any number of steps at once.
 */
#ifndef CAPTIONER_NATIVE_H
#define CAPTIONER_NATIVE_H

#include "plan.h"

#include <immintrin.h>
#include <math.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))
#define INLINE AVX512 static inline __attribute__((always_inline))

enum { PANEL = 16 }; /* floats of a register */
enum { GROUP = 48 }; /* adjacent outputs: three registers */
enum { TOGETHER = 48 };  /* rows per pass over a group of weights: three AMX tiles, six times eight rows */
enum { DEPTH = 64 }; /* int8 inputs are padded to a multiple of it: the bytes of a register and of an AMX tile row */

/* The input of a product: rows of floats, and for int8 also as levels * step + least. */
struct rows {
    int64_t count, width; /* width: floats of a row; levels are padded to a multiple of DEPTH */
    float *values;
    uint8_t *levels;
    float *step, *least;
};

enum how { STORE, ACTIVATE, ADD };

/* The output of a product, out[row][column]: stored, stored after the activation, or added times ``factor``. */
struct sink {
    float *out;
    int64_t stride;
    enum how how;
    float factor;
    int64_t activation; /* enum activation */
};

/* A thread and the number of threads of one call. */
struct team {
    int thread, threads;
};

/* A thread's part of the work, in equal pieces. */
struct share {
    int64_t first, end;
};

static inline struct share share_of(int64_t pieces, struct team team) {
    return (struct share){pieces * team.thread / team.threads, pieces * (team.thread + 1) / team.threads};
}

static inline int64_t groups_of(const struct product *product) { return (product->out + GROUP - 1) / GROUP; }
static inline int64_t padded(int64_t width) { return (width + DEPTH - 1) / DEPTH * DEPTH; }

static inline uint16_t first_lanes(int64_t count) {
    return count >= PANEL ? 0xFFFF : count <= 0 ? 0 : (uint16_t)((1u << count) - 1);
}

/* A run over weights: ``count`` inputs (in int8: groups of four); each prefetches ``step`` bytes of ``ahead``. */
struct run {
    const void *weight;
    int64_t count;
    const char *ahead;
    int64_t step;
};

/* fp32.c, vnni.c, amx.c: groups ``part`` of a product of all rows, into ``sink``; ``next``: the weights read next. */
void multiply_fp32(const struct product *, const struct rows *, const struct sink *, struct share part, const void *next);
void multiply_vnni(const struct product *, const struct rows *, const struct sink *, struct share part, const void *next);
void multiply_amx(const struct product *, const struct rows *, const struct sink *, struct share part, const void *next);

/* products.c: a thread's part of a product; ``after``: the product read next, or NULL. Allocation of rows. */
void multiply(const struct product *, const struct rows *, const struct sink *, struct team, const struct product *after);
void *room_for(int64_t count, int64_t size);
int rows_alloc(struct rows *rows, int64_t count, int64_t width, int in_levels);
void rows_free(struct rows *rows);
void quantize_rows(const struct rows *rows, struct team team); /* by all threads, if rows have levels */

/* rows.c: operations on one row. */
void quantize(const struct rows *rows, int64_t row);
void normalize(const float *x, const struct rows *out, int64_t row, const struct norm *norm, float eps);

/* The attention of one head for the queries of one image. */
struct reading {
    int64_t queries, slots, head_width;
    const float *q;            /* [query * q_stride] */
    const void *keys, *values; /* [slot][head_width], fp32 or fp16 */
    int64_t halves;
    int64_t q_stride, out_stride;
    float *out;
    const int32_t *seen;   /* slots that the first query sees, padded to whole panels; others at seen_stride */
    const int64_t *counts; /* number of seen slots of each query */
    const float *window;   /* per seen slot 0, or -infinity outside the local window; laid out as ``seen`` */
    int64_t seen_stride;   /* 0 if all queries see the same slots */
    int kind;
    const float *gate, *point, *spread; /* outputs of the products for this head; queries are gate_stride apart */
    int64_t gate_stride;
    const struct grid *grid; /* of the local read of an image; NULL otherwise */
};

/* attention.c: list the slots that a query sees, padded to whole panels, and its window; return their number. */
int64_t look(const uint8_t *global, const uint8_t *local, int64_t slots, int32_t *seen, float *window);
/* ``scratch``: attention_scratch(slots) floats. */
void attend(const struct reading *reading, float *scratch);
int64_t attention_scratch(int64_t slots);

#endif
