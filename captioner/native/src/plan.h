/* What Python lays out: weights once, a call per step. captioner/native/plans.py has the same structs. */
#ifndef CAPTIONER_PLAN_H
#define CAPTIONER_PLAN_H

#include <stdint.h>

/* A linear layer. Weights lie in the order in which they are read; outputs are padded to whole groups, with zeros. */
struct product {
    int64_t in, out;
    const float *bias;    /* [out] */
    const float *weight;  /* fp32: [group][in][GROUP]; NULL in int8 */
    const int8_t *levels; /* int8: [group][in / 4][GROUP][4]; NULL in fp32 */
    const float *scale;   /* int8: [out], the size of a level */
    const float *totals;  /* int8: [out], the sum of a row of weights */
    int64_t tiles;        /* whether AMX may multiply it */
};

struct norm {
    const float *weight, *bias;
};

enum kind { READ_GLOBAL, READ_LOCAL, READ_MIXED };

/* A block of the decoder. What a kind of attention does not have is NULL. */
struct layer {
    struct norm self_norm, cross_norm, mlp_norm;
    const struct product *qkv, *self_gate, *self_out;
    const struct product *q, *cross_gate, *point, *spread, *cross_out;
    const struct product *fc1, *fc2;
    int64_t self_kind, cross_kind;
    float cross_factor; /* what the image half is multiplied by */
    float eps;
};

/* Which slots queries see: bytes[image * image_stride + query * query_stride + slot]; NULL: all. */
struct mask {
    const uint8_t *bytes;
    int64_t image_stride, query_stride;
};

/* Where patches lie, from 0 to 1; ``before`` tokens stand in front of them and lie nowhere. */
struct grid {
    const float *rows, *columns;
    int64_t before;
};

struct memory {
    const void *keys, *values; /* [image][head][slot][head_width], floats or halves of them */
};

struct cache {
    float *keys, *values; /* [image][head][capacity][head_width] */
};

/* One step of all layers, for ``queries`` rows of each image. */
struct step {
    int64_t images, queries, width, heads, hidden, layer_count;
    int64_t past, capacity, patches; /* slots that are filled, and that there are; patches, 0 without an image */
    const struct layer *layers;
    const struct cache *caches;
    const struct memory *memories;
    int64_t halves;      /* whether the memories are fp16 */
    const int64_t *rows; /* [images]: which of those in the memories each is; NULL: they are the same */
    struct grid grid;
    struct mask global, local;
    float *x; /* [images * queries][width], in and out */
};

#endif
