/* Declarations shared by the files of this library.
 *
 * Python builds the plan of a step (captioner/native/plans.py mirrors the structs of plan.h) and checks it; the C code
 * trusts shapes, types and pointers. There is no static data, so threads may run any number of steps at once.
 */
#ifndef CAPTIONER_NATIVE_H
#define CAPTIONER_NATIVE_H

#include "plan.h"

#include <math.h>

#if defined(_MSC_VER) && !defined(__clang__) /* its intrinsics need no target */
#define TARGETS(names)
#define ALWAYS_INLINE
#else
#define TARGETS(names) __attribute__((target(names)))
#define ALWAYS_INLINE __attribute__((always_inline))
#endif

#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(address) __builtin_prefetch(address, 0, 2)
#else
#define PREFETCH(address) ((void)(address))
#endif

enum { PANEL = 16 }; /* floats of the longest register; lists of slots are padded to a multiple of it */
enum { GROUP = 48 }; /* adjacent outputs: three of the longest registers */
enum { TOGETHER = 48 };  /* rows per pass over a group of weights: three AMX tiles, six times eight rows */
enum { DEPTH = 64 }; /* int8 inputs are padded to a multiple of it: the bytes of a register and of an AMX tile row */
enum { MOST = 64 }; /* largest k of a top k */

/* The input of a product: rows of floats, and for int8 also as levels * step + least (unsigned bytes; signed on ARM). */
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

/* A run over weights: ``count`` inputs (in int8: groups of four); each prefetches ``step`` bytes of ``ahead``. */
struct run {
    const void *weight;
    int64_t count;
    const char *ahead;
    int64_t step;
};

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

/* The top k of a row, unordered. */
struct best {
    int64_t count, worst; /* index of the smallest value, the later one of equal values */
    float values[MOST];
    int64_t places[MOST];
};

/* A product of all rows by the groups ``part``, into ``sink``; ``next``: the weights that are read next. */
typedef void multiply_groups(const struct product *, const struct rows *, const struct sink *, struct share part,
                             const void *next);

/* The functions of one level of CPU; kernels.h defines them. */
struct kernels {
    multiply_groups *multiply_fp32, *multiply_int8, *multiply_many_int8; /* many: more than FEW rows */
    void (*quantize)(const struct rows *rows, int64_t row);
    void (*normalize)(const float *x, const struct rows *out, int64_t row, const struct norm *norm, float eps);
    void (*attend)(const struct reading *reading, float *scratch); /* scratch: attention_scratch(slots) floats */
    void (*find)(const float *x, int64_t width, int64_t count, struct best *best);
    float (*dot)(const float *a, const float *b, int64_t width);
};

extern const struct kernels kernels_sse42, kernels_avx2, kernels_avx2_vnni, kernels_avx512, kernels_neon;
multiply_groups multiply_amx;

/* cpu.c: the functions of a level that this CPU supports. */
struct kernels kernels_of(int64_t level);

/* products.c: a thread's part of a product; ``after``: the product read next, or NULL. Allocation of rows. */
void multiply(const struct kernels *, const struct product *, const struct rows *, const struct sink *, struct team,
              const struct product *after);
void *room_for(int64_t count, int64_t size);
void free_room(void *room);
int rows_alloc(struct rows *rows, int64_t count, int64_t width, int in_levels);
void rows_free(struct rows *rows);
void quantize_rows(const struct kernels *, const struct rows *, struct team); /* by all threads, if rows have levels */

static inline int64_t attention_scratch(int64_t slots) { return 3 * (slots + PANEL); }

#endif
