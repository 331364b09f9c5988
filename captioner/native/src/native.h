/* What the files of this library share: the plan of a decoding step, and the parts it is made of.
 *
 * Python lays the plan out (captioner/native/plans.py mirrors the structs of plan.h) and has checked all of it: the C
 * side trusts shapes, types and pointers. Nothing here is static, so threads may run any number of steps at once.
 */
#ifndef CAPTIONER_NATIVE_H
#define CAPTIONER_NATIVE_H

#include "plan.h"

#include <immintrin.h>
#include <math.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))
#define INLINE AVX512 static inline __attribute__((always_inline))

enum { PANEL = 16 }; /* the floats of a register */
enum { GROUP = 48 }; /* outputs that lie side by side: three registers of them */
enum { TOGETHER = 48 };  /* rows that go through a group of weights together: three tiles of AMX, six times eight rows */
enum { DEPTH = 64 }; /* int8 inputs are padded to a multiple of it: the bytes of a register, and of an AMX tile's row */

/* What a product multiplies: rows of floats, and in int8 the same as levels * step + least. */
struct rows {
    int64_t count, width; /* floats of a row; its levels are padded to a multiple of DEPTH */
    float *values;
    uint8_t *levels;
    float *step, *least;
};

enum how { STORE, GELU, ADD };

/* Where a product's results go: out[row][column], stored, or through GELU, or added, times ``factor``. */
struct sink {
    float *out;
    int64_t stride;
    enum how how;
    float factor;
};

/* A thread among those that work on one call. */
struct team {
    int thread, threads;
};

/* Its part of work that is cut into equal pieces. */
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

/* A run over weights: ``count`` inputs, in int8 fours of them. Meanwhile ``step`` bytes for each are fetched from ``ahead``. */
struct run {
    const void *weight;
    int64_t count;
    const char *ahead;
    int64_t step;
};

/* fp32.c, vnni.c, amx.c: groups ``part`` of a product of all rows, into ``sink``; ``next``: weights that are read after. */
void multiply_fp32(const struct product *, const struct rows *, const struct sink *, struct share part, const void *next);
void multiply_vnni(const struct product *, const struct rows *, const struct sink *, struct share part, const void *next);
void multiply_amx(const struct product *, const struct rows *, const struct sink *, struct share part, const void *next);

/* products.c: a thread's part of a product; ``after`` is read then, or NULL. Room for rows, and whether there was any. */
void multiply(const struct product *, const struct rows *, const struct sink *, struct team, const struct product *after);
void *room_for(int64_t count, int64_t size);
int rows_alloc(struct rows *rows, int64_t count, int64_t width, int in_levels);
void rows_free(struct rows *rows);
void quantize_rows(const struct rows *rows, struct team team); /* all of them, by all threads, where rows have levels */

/* rows.c: one row alone. */
void quantize(const struct rows *rows, int64_t row);
void normalize(const float *x, const struct rows *out, int64_t row, const struct norm *norm, float eps);

/* What one head of an image's queries reads, and where to. */
struct reading {
    int64_t queries, slots, head_width;
    const float *q;            /* [query * q_stride] */
    const void *keys, *values; /* [slot][head_width]: floats, or halves of them */
    int64_t halves;
    int64_t q_stride, out_stride;
    float *out;
    const int32_t *seen;   /* of the first query: the slots that it sees, padded to whole panels; seen_stride to the next */
    const int64_t *counts; /* how many these are, of each query */
    const float *window;   /* of each of them 0, or -infinity outside of the window of the local reading; as ``seen`` */
    int64_t seen_stride;   /* 0 where all queries see the same */
    int kind;
    const float *gate, *point, *spread; /* what the products gave for this head, a query gate_stride from the next */
    int64_t gate_stride;
    const struct grid *grid; /* of the local reading, if that is of an image */
};

/* attention.c: lists the slots that a query sees, padded to whole panels, and its window; returns their number. */
int64_t look(const uint8_t *global, const uint8_t *local, int64_t slots, int32_t *seen, float *window);
/* ``scratch`` has attention_scratch(slots) floats. */
void attend(const struct reading *reading, float *scratch);
int64_t attention_scratch(int64_t slots);

#endif
