/* Structs that Python fills: weights once, the rest per step. captioner/native/plans.py mirrors them. */
#ifndef CAPTIONER_PLAN_H
#define CAPTIONER_PLAN_H

#include <stdint.h>

/* Kinds of CPUs; captioner/native/library.py names them in this order. */
enum level { NO_LEVEL, SSE42, AVX2, AVX2_VNNI, AVX512, AMX, NEON };

/* A linear layer. Weights are stored in reading order; outputs are zero-padded to whole groups. */
struct product {
    int64_t in, out;
    const float *bias;    /* [out] */
    const float *weight;  /* fp32: [group][in][GROUP]; NULL in int8 */
    const int8_t *levels; /* int8: [group][in / 4][GROUP][4]; NULL in fp32 */
    const float *scale;   /* int8: [out], the value of one level */
    const float *totals;  /* int8: [out], the sum of each row of weights */
};

struct norm {
    const float *weight, *bias;
};

enum kind { READ_GLOBAL, READ_LOCAL, READ_MIXED };
enum activation { NO_ACTIVATION = -1, GELU_TANH, GELU_ERF, RELU };

/* A decoder block. Products that a kind of attention lacks are NULL. */
struct layer {
    struct norm self_norm, cross_norm, mlp_norm;
    const struct product *qkv, *self_gate, *self_out;
    const struct product *q, *cross_gate, *point, *spread, *cross_out;
    const struct product *fc1, *fc2;
    int64_t self_kind, cross_kind;
    float cross_factor; /* factor on the cross-attention's output */
    float eps;
};

/* The slots that queries see: bytes[image * image_stride + query * query_stride + slot]; NULL: all. */
struct mask {
    const uint8_t *bytes;
    int64_t image_stride, query_stride;
};

/* Centres of the patches, from 0 to 1; the ``before`` tokens before them have no position. */
struct grid {
    const float *rows, *columns;
    int64_t before;
};

struct memory {
    const void *keys, *values; /* [image][head][slot][head_width], fp32 or fp16 */
};

struct cache {
    float *keys, *values; /* [image][head][capacity][head_width] */
};

/* One step of all layers, for ``queries`` rows of each image. */
struct step {
    int64_t images, queries, width, heads;
    int64_t heads_width; /* of all heads together; less than width after pruning */
    int64_t hidden, layer_count;
    int64_t past, capacity, patches; /* filled slots, all slots, patches (0 without an image) */
    int64_t post_norm;               /* whether norms follow the residual sums */
    int64_t activation;              /* of the MLP, enum activation */
    int64_t level;                   /* enum level; this CPU supports it */
    const struct layer *layers;
    const struct cache *caches;
    const struct memory *memories;
    int64_t halves;      /* whether the memories are fp16 */
    const int64_t *rows; /* [images]: the index of each image in the memories; NULL: the same order */
    struct grid grid;
    struct mask global, local;
    float *x; /* [images * queries][width], input and output */
};

#endif
