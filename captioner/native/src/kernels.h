/* All functions of one level; each level's file includes this once, after its registers (avx512.h). */
#include <string.h>

#include "activations.h"

#include "attention.h"
#include "fp32.h"
#include "int8.h"
#include "largest.h"
#include "rows.h"

const struct kernels KERNELS = {
    .multiply_fp32 = multiply_fp32,
    .multiply_int8 = multiply_int8,
    .multiply_many_int8 = multiply_int8,
    .quantize = quantize,
    .normalize = normalize,
    .attend = attend,
    .find = find,
    .dot = dot,
};
