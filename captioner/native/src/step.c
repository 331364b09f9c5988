/* One decoding step of all blocks: captioner/models/decoder.py with a KV cache, in one call.
 *
 * All threads run the same phases, each ended by a barrier, and divide the rows, the groups of a product, or the heads
 * of the images among them.
 */
#include "native.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* The slots that queries see, as in struct reading. */
struct sight {
    int32_t *seen;
    int64_t *counts;
    float *window;
    int64_t stride;
};

/* Data passed between the phases. */
struct state {
    const struct step *step;
    struct kernels kernels;
    struct rows normed, read, hidden;
    float *qkv, *q, *gate, *point, *spread, *scratch;
    int64_t scratch_width;     /* floats per thread */
    struct sight words, image; /* words: per query; image: the same for all queries */
};

static int has_levels(const struct step *step) { return step->layers[0].qkv->levels != NULL; }

static int64_t more(int64_t a, int64_t b) { return a > b ? a : b; }

static int sight_alloc(struct sight *sight, int64_t queries, int64_t slots) {
    sight->stride = slots + PANEL;
    sight->seen = room_for(queries * sight->stride, sizeof(int32_t));
    sight->counts = room_for(queries, sizeof(int64_t));
    sight->window = room_for(queries * sight->stride, sizeof(float));
    return sight->seen && sight->counts && sight->window;
}

static void sight_free(struct sight *sight) {
    free_room(sight->seen);
    free_room(sight->counts);
    free_room(sight->window);
}

static int state_alloc(struct state *state, const struct step *step, int threads) {
    const int64_t count = step->images * step->queries, slots = step->past + step->queries;
    *state = (struct state){
        .step = step, .kernels = kernels_of(step->level), .scratch_width = attention_scratch(more(slots, step->patches))};
    int levels = has_levels(step);
    int found = rows_alloc(&state->normed, count, step->width, levels);
    found &= rows_alloc(&state->read, count, step->heads_width, levels);
    found &= rows_alloc(&state->hidden, count, step->hidden, levels);
    found &= sight_alloc(&state->words, count, slots);
    found &= sight_alloc(&state->image, 1, step->patches);
    state->qkv = room_for(count * 3 * step->heads_width, sizeof(float));
    state->q = room_for(count * step->heads_width, sizeof(float));
    state->gate = room_for(count * step->heads, sizeof(float));
    state->point = room_for(count * step->heads * 2, sizeof(float));
    state->spread = room_for(count * step->heads, sizeof(float));
    state->scratch = room_for(state->scratch_width * threads, sizeof(float));
    return found && state->qkv && state->q && state->gate && state->point && state->spread && state->scratch;
}

static void state_free(struct state *state) {
    rows_free(&state->normed);
    rows_free(&state->read);
    rows_free(&state->hidden);
    sight_free(&state->words);
    sight_free(&state->image);
    free_room(state->qkv);
    free_room(state->q);
    free_room(state->gate);
    free_room(state->point);
    free_room(state->spread);
    free_room(state->scratch);
}

/* normed = norm(x), or x if ``norm`` is NULL; with post-norm also x = normed. */
static void normalize_rows(const struct state *state, const struct norm *norm, float eps, struct team team) {
    const struct rows *out = &state->normed;
    for (int64_t row = team.thread; row < out->count; row += team.threads) {
        float *x = state->step->x + row * out->width, *normed = out->values + row * out->width;
        if (norm)
            state->kernels.normalize(x, out, row, norm, eps);
        if (state->step->post_norm)
            memcpy(norm ? x : normed, norm ? normed : x, out->width * sizeof(float));
        if (out->levels)
            state->kernels.quantize(out, row);
    }
#pragma omp barrier
}

/* x += factor * product(rows) */
static void add_to_x(const struct state *state, const struct product *product, const struct rows *rows, float factor,
                     struct team team, const struct product *after) {
    quantize_rows(&state->kernels, rows, team);
    struct sink sink = {.out = state->step->x, .stride = state->step->width, .how = ADD, .factor = factor};
    multiply(&state->kernels, product, rows, &sink, team, after);
#pragma omp barrier
}

/* A product of the normed rows; does nothing if ``product`` is NULL. */
static void store(const struct state *state, const struct product *product, float *out, struct team team,
                  const struct product *after) {
    if (!product)
        return;
    struct sink sink = {.out = out, .stride = product->out};
    multiply(&state->kernels, product, &state->normed, &sink, team, after);
}

static const uint8_t *of_query(const struct mask *mask, int64_t image, int64_t query) {
    return mask->bytes ? mask->bytes + image * mask->image_stride + query * mask->query_stride : NULL;
}

/* List the slots that a query sees, padded to whole panels, and its window; return their number. */
static int64_t look(const uint8_t *global, const uint8_t *local, int64_t slots, int32_t *seen, float *window) {
    int64_t count = 0;
    for (int64_t s = 0; s < slots; s++) {
        seen[count] = (int32_t)s;
        window[count] = local && !local[s] ? -INFINITY : 0.0f;
        count += !global || global[s];
    }
    for (int64_t s = count; s % PANEL; s++)
        seen[s] = seen[count - 1];
    return count;
}

static void look_around(const struct state *state, struct team team) {
    const struct step *step = state->step;
    const struct sight *words = &state->words, *image = &state->image;
    for (int64_t row = team.thread; row < step->images * step->queries; row += team.threads) {
        const uint8_t *global = of_query(&step->global, row / step->queries, row % step->queries);
        const uint8_t *local = of_query(&step->local, row / step->queries, row % step->queries);
        words->counts[row] = look(global, local, step->past + step->queries, words->seen + row * words->stride,
                                  words->window + row * words->stride);
    }
    if (team.thread == 0)
        image->counts[0] = look(NULL, NULL, step->patches, image->seen, image->window);
} /* the barrier after the first norms also ends this phase */

/* Append the keys and values of an image's new tokens, for one head. */
static void append(const struct step *step, const struct cache *cache, const float *qkv, int64_t image, int64_t head) {
    const int64_t width = step->heads_width / step->heads;
    int64_t slot = (image * step->heads + head) * step->capacity + step->past;
    for (int64_t query = 0; query < step->queries; query++, slot++) {
        const float *of_row = qkv + (image * step->queries + query) * 3 * step->heads_width + head * width;
        for (int64_t c = 0; c < width; c++) {
            cache->keys[slot * width + c] = of_row[step->heads_width + c];
            cache->values[slot * width + c] = of_row[2 * step->heads_width + c];
        }
    }
}

static void read_words(const struct state *state, const struct layer *layer, int64_t i, struct team team) {
    const struct step *step = state->step;
    const struct cache *cache = &step->caches[i];
    const int64_t width = step->heads_width / step->heads;
    const int windowed = step->local.bytes != step->global.bytes;
    struct share part = share_of(step->images * step->heads, team);
    for (int64_t piece = part.first; piece < part.end; piece++) {
        const int64_t image = piece / step->heads, head = piece % step->heads, row = image * step->queries;
        append(step, cache, state->qkv, image, head);
        struct reading reading = {
            .queries = step->queries,
            .slots = step->past + step->queries,
            .head_width = width,
            .q = state->qkv + row * 3 * step->heads_width + head * width,
            .q_stride = 3 * step->heads_width,
            .keys = cache->keys + piece * step->capacity * width,
            .values = cache->values + piece * step->capacity * width,
            .out = state->read.values + row * step->heads_width + head * width,
            .out_stride = step->heads_width,
            .seen = state->words.seen + row * state->words.stride,
            .counts = state->words.counts + row,
            .window = state->words.window + row * state->words.stride,
            .seen_stride = state->words.stride,
            .kind = windowed ? (int)layer->self_kind : READ_GLOBAL, /* the past may fit in the window */
            .gate = windowed && layer->self_gate ? state->gate + row * step->heads + head : NULL,
            .gate_stride = step->heads,
        };
        state->kernels.attend(&reading, state->scratch + team.thread * state->scratch_width);
    }
#pragma omp barrier
}

static void read_image(const struct state *state, const struct layer *layer, int64_t i, struct team team) {
    const struct step *step = state->step;
    const int64_t width = step->heads_width / step->heads;
    const int64_t of_head = step->patches * width * (step->halves ? sizeof(uint16_t) : sizeof(float));
    struct share part = share_of(step->images * step->heads, team);
    for (int64_t piece = part.first; piece < part.end; piece++) {
        const int64_t image = piece / step->heads, head = piece % step->heads, row = image * step->queries;
        const int64_t kept = (step->rows ? step->rows[image] : image) * step->heads + head;
        struct reading reading = {
            .queries = step->queries,
            .slots = step->patches,
            .head_width = width,
            .q = state->q + row * step->heads_width + head * width,
            .q_stride = step->heads_width,
            .keys = (const char *)step->memories[i].keys + kept * of_head,
            .values = (const char *)step->memories[i].values + kept * of_head,
            .halves = step->halves,
            .out = state->read.values + row * step->heads_width + head * width,
            .out_stride = step->heads_width,
            .seen = state->image.seen,
            .counts = state->image.counts,
            .window = state->image.window,
            .kind = (int)layer->cross_kind,
            .gate = layer->cross_gate ? state->gate + row * step->heads + head : NULL,
            .point = state->point + (row * step->heads + head) * 2,
            .spread = state->spread + row * step->heads + head,
            .gate_stride = step->heads,
            .grid = layer->cross_kind == READ_GLOBAL ? NULL : &step->grid,
        };
        state->kernels.attend(&reading, state->scratch + team.thread * state->scratch_width);
    }
#pragma omp barrier
}

static void run_layer(const struct state *state, int64_t i, struct team team) {
    const struct step *step = state->step;
    const struct layer *layer = &step->layers[i];
    const int before = !step->post_norm, after_sum = step->post_norm;
    if (before || i == 0)
        normalize_rows(state, before ? &layer->self_norm : NULL, layer->eps, team);
    store(state, layer->self_gate, state->gate, team, layer->qkv);
    store(state, layer->qkv, state->qkv, team, layer->self_out);
#pragma omp barrier
    read_words(state, layer, i, team);
    add_to_x(state, layer->self_out, &state->read, 1.0f, team, step->memories ? layer->q : layer->fc1);
    if (after_sum)
        normalize_rows(state, &layer->self_norm, layer->eps, team);
    if (step->memories) {
        if (before)
            normalize_rows(state, &layer->cross_norm, layer->eps, team);
        store(state, layer->cross_gate, state->gate, team, layer->q);
        store(state, layer->point, state->point, team, layer->q);
        store(state, layer->spread, state->spread, team, layer->q);
        store(state, layer->q, state->q, team, layer->cross_out);
#pragma omp barrier
        read_image(state, layer, i, team);
        add_to_x(state, layer->cross_out, &state->read, layer->cross_factor, team, layer->fc1);
        if (after_sum)
            normalize_rows(state, &layer->cross_norm, layer->eps, team);
    }
    if (before)
        normalize_rows(state, &layer->mlp_norm, layer->eps, team);
    struct sink sink = {
        .out = state->hidden.values, .stride = step->hidden, .how = ACTIVATE, .activation = step->activation};
    multiply(&state->kernels, layer->fc1, &state->normed, &sink, team, layer->fc2);
#pragma omp barrier
    const struct product *after = i + 1 < step->layer_count ? layer[1].qkv : NULL;
    add_to_x(state, layer->fc2, &state->hidden, 1.0f, team, after);
    if (after_sum)
        normalize_rows(state, &layer->mlp_norm, layer->eps, team);
}

/* Returns 0, or 1 if memory allocation failed. */
int captioner_step(const struct step *step, int threads) {
    struct state state;
    int found = state_alloc(&state, step, threads);
    if (found) {
#pragma omp parallel num_threads(threads)
        {
            struct team team = {omp_get_thread_num(), omp_get_num_threads()};
            look_around(&state, team);
            for (int64_t i = 0; i < step->layer_count; i++)
                run_layer(&state, i, team);
        }
    }
    state_free(&state);
    return !found;
}
