/* Operations on one row: LayerNorm and quantization. */

/* Quantize a row to bytes between its minimum and maximum, like torch.ops.quantized.embedding_bag_byte_prepack. */
TARGET static void quantize(const struct rows *rows, int64_t row) {
    const float *x = rows->values + row * rows->width;
    uint8_t *levels = rows->levels + row * padded(rows->width);
    floats low = f_all(INFINITY), high = f_all(-INFINITY), sum = f_zero();
    for (int64_t k = 0; k < rows->width; k += LANES) {
        floats values = f_load_first(x + k, rows->width - k);
        low = f_min(low, f_first(values, low, rows->width - k));
        high = f_max(high, f_first(values, high, rows->width - k));
        sum = f_add(sum, values);
    }
    float least = f_least(low), range = f_most(high) - least;
    rows->step[row] = range / (float)LEVELS;
    /* Minimum and maximum may ignore NaN; a sum propagates it. */
    rows->least[row] = least + 0.0f * f_sum(sum) - (float)LOWEST_LEVEL * rows->step[row];
    floats origin = f_all(least), inverse = f_all((float)LEVELS / (range + 1e-8f)), lowest = f_all((float)LOWEST_LEVEL);
    for (int64_t k = 0; k < padded(rows->width); k += LANES) { /* the weights of the padding are zero */
        floats offset = f_sub(f_load_first(x + k, rows->width - k), origin);
        f_store_levels(levels + k, f_add(f_mul(offset, inverse), lowest));
    }
}

/* LayerNorm of ``x``, a row, into row ``row`` of ``out``. */
TARGET static void normalize(const float *x, const struct rows *out, int64_t row, const struct norm *norm, float eps) {
    const int64_t width = out->width;
    float *y = out->values + row * width;
    floats sum = f_zero(), squares = f_zero();
    for (int64_t k = 0; k < width; k += LANES)
        sum = f_add(sum, f_load_first(x + k, width - k));
    floats mean = f_all(f_sum(sum) / (float)width);
    for (int64_t k = 0; k < width; k += LANES) {
        floats offset = f_first(f_sub(f_load_first(x + k, width - k), mean), f_zero(), width - k);
        squares = f_fma(offset, offset, squares);
    }
    floats scale = f_all(1.0f / sqrtf(f_sum(squares) / (float)width + eps));
    for (int64_t k = 0; k < width; k += LANES) {
        floats offset = f_sub(f_load_first(x + k, width - k), mean);
        floats scaled = f_mul(f_mul(offset, scale), f_load_first(norm->weight + k, width - k));
        f_store_first(y + k, f_add(scaled, f_load_first(norm->bias + k, width - k)), width - k);
    }
}
