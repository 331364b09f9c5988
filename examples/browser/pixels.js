// Pixels of a photo as Pillow makes them, since a canvas resizes in another way and another pixel may change a word.

const BITS = 22; // fractional bits of Pillow's weights (Resample.c: PRECISION_BITS)
const FILTERS = {
  2: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) }, // bilinear
  3: { support: 2, weight: cubic }, // bicubic
};

function cubic(x) {
  const a = -0.5, t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

/** Return the first input place and the weights of each of `size` output places, for input places from `start` on. */
function weightsOf(length, from, extent, size, filter) {
  const start = Math.fround(from), end = Math.fround(from + extent); // Pillow's box is of 32 bits
  const scale = Math.fround(end - start) / size, stretch = Math.max(1, scale), support = filter.support * stretch, shrink = 1 / stretch;
  return Array.from({ length: size }, (_, place) => {
    const centre = start + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(filter.weight((x - centre + 0.5) * shrink));
    const sum = weights.reduce((a, b) => a + b, 0);
    const fixed = weights.map((w) => Math.trunc((w / sum) * 2 ** BITS + (w < 0 ? -0.5 : 0.5)));
    return { first, fixed };
  });
}

const rounded = (sum) => Math.min(255, Math.max(0, Math.floor((sum + 2 ** (BITS - 1)) / 2 ** BITS)));

/** Resize the rows of RGB or RGBA `data` to `weights.length` places; return RGB. */
function rowsResized(data, channels, width, height, weights) {
  const out = new Uint8ClampedArray(height * weights.length * 3);
  for (let y = 0, place = 0; y < height; y++) {
    for (const { first, fixed } of weights) {
      let red = 0, green = 0, blue = 0, at = (y * width + first) * channels;
      for (const weight of fixed) {
        red += data[at] * weight, green += data[at + 1] * weight, blue += data[at + 2] * weight;
        at += channels;
      }
      out[place++] = rounded(red), out[place++] = rounded(green), out[place++] = rounded(blue);
    }
  }
  return out;
}

/** Resize the columns of RGB or RGBA `data` to `weights.length` places; return RGB. */
function columnsResized(data, channels, width, weights) {
  const out = new Uint8ClampedArray(weights.length * width * 3), stride = width * channels;
  let place = 0;
  for (const { first, fixed } of weights) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0, at = first * stride + x * channels + channel;
        for (const weight of fixed) sum += data[at] * weight, at += stride;
        out[place++] = rounded(sum);
      }
    }
  }
  return out;
}

/**
 * Resize the part `box` (left, top, width, height) of RGBA `data` to RGB of `size` x `size`, as Pillow does: rows and
 * columns after each other, each rounded to 8 bits. `resample` is Pillow's number: 2 bilinear, 3 bicubic.
 */
export function resize(data, width, height, box, size, resample) {
  const filter = FILTERS[resample];
  if (!filter) throw new Error(`resampling filter ${resample} is neither 2 (bilinear) nor 3 (bicubic)`);
  const across = weightsOf(width, box.left, box.width, size, filter);
  const down = weightsOf(height, box.top, box.height, size, filter);
  if (height > size && height - size > 2 * (width - size)) { // the order of Pillow 13, by experiment
    return rowsResized(columnsResized(data, 4, width, down), 3, width, size, across);
  }
  return columnsResized(rowsResized(data, 4, width, height, across), 3, size, down);
}

/** Return the part of a photo that the model sees, for the settings in preprocessor_config.json. */
export function boxOf(width, height, settings) {
  const resized = settings.size.shortest_edge ?? settings.size.height;
  const zoom = resized / sizeOf(settings), side = Math.min(width, height);
  const [columns, rows] = settings.size.shortest_edge ? [side / zoom, side / zoom] : [width / zoom, height / zoom];
  return { left: (width - columns) / 2, top: (height - rows) / 2, width: columns, height: rows };
}

export const sizeOf = (settings) => settings.crop_size?.height ?? settings.size.shortest_edge ?? settings.size.height;

/** Return normalised pixels (3, size, size) of a square of RGB. */
export function normalised(square, settings) {
  const count = square.length / 3, values = new Float32Array(square.length);
  for (let channel = 0; channel < 3; channel++) {
    const mean = Math.fround(settings.image_mean[channel]), std = Math.fround(settings.image_std[channel]);
    for (let at = 0; at < count; at++) {
      const value = Math.fround(square[at * 3 + channel] / 255);
      values[channel * count + at] = Math.fround(Math.fround(value - mean) / std);
    }
  }
  return values;
}
