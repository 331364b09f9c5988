/* A thread's part of a product, and a whole product. */
#include "native.h"

#include <omp.h>
#include <stdlib.h>
#if defined(_WIN32)
#include <malloc.h>
#endif

enum { FEW = 8 }; /* up to this many rows AMX is no faster than VNNI, limited by reading the weights */

void *room_for(int64_t count, int64_t size) {
    size_t bytes = (size_t)((count * size + 64) / 64 * 64);
#if defined(_WIN32)
    return _aligned_malloc(bytes, 64);
#else
    return aligned_alloc(64, bytes);
#endif
}

void free_room(void *room) {
#if defined(_WIN32)
    _aligned_free(room);
#else
    free(room);
#endif
}

static int levels_alloc(struct rows *rows) {
    rows->levels = room_for(rows->count, padded(rows->width));
    rows->step = room_for(rows->count, sizeof(float));
    rows->least = room_for(rows->count, sizeof(float));
    return rows->levels && rows->step && rows->least;
}

int rows_alloc(struct rows *rows, int64_t count, int64_t width, int in_levels) {
    *rows = (struct rows){.count = count, .width = width, .values = room_for(count * width, sizeof(float))};
    return rows->values && (!in_levels || levels_alloc(rows));
}

void rows_free(struct rows *rows) {
    free_room(rows->values);
    free_room(rows->levels);
    free_room(rows->step);
    free_room(rows->least);
}

void quantize_rows(const struct kernels *kernels, const struct rows *rows, struct team team) {
    if (!rows->levels)
        return;
    for (int64_t row = team.thread; row < rows->count; row += team.threads)
        kernels->quantize(rows, row);
#pragma omp barrier
}

static const void *first_read(const struct product *product, struct team team) {
    if (!product)
        return NULL;
    int64_t group = share_of(groups_of(product), team).first;
    if (product->levels)
        return product->levels + group * padded(product->in) * GROUP;
    return product->weight + group * product->in * GROUP;
}

void multiply(const struct kernels *kernels, const struct product *product, const struct rows *rows,
              const struct sink *sink, struct team team, const struct product *after) {
    struct share part = share_of(groups_of(product), team);
    const void *next = first_read(after, team);
    multiply_groups *groups = !product->levels      ? kernels->multiply_fp32
                              : rows->count > FEW ? kernels->multiply_many_int8
                                                  : kernels->multiply_int8;
    groups(product, rows, sink, part, next);
}

/* Multiply ``x`` [count][in] into ``out`` [count][out], after the ``activation`` (enum activation) if there is one.
 * Returns 0, or 1 if memory allocation failed. */
int captioner_multiply(const struct product *product, const float *x, int64_t count, float *out, int64_t activation,
                       int64_t level, int threads) {
    const struct kernels kernels = kernels_of(level);
    struct rows rows = {.count = count, .width = product->in, .values = (float *)x};
    struct sink sink = {.out = out, .stride = product->out};
    if (activation != NO_ACTIVATION)
        sink.how = ACTIVATE, sink.activation = activation;
    int failed = product->levels && !levels_alloc(&rows);
    if (!failed) {
#pragma omp parallel num_threads(threads)
        {
            struct team team = {omp_get_thread_num(), omp_get_num_threads()};
            quantize_rows(&kernels, &rows, team);
            multiply(&kernels, product, &rows, &sink, team, NULL);
        }
    }
    rows.values = NULL; /* owned by the caller */
    rows_free(&rows);
    return failed;
}
