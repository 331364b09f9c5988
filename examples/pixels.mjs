// Pixels of a photo as captioner makes them in Python: Pillow's `Image.resize(..., reducing_gap=3.0)` to the last bit.
//
// transformers.js and a canvas resize in other ways, and other pixels may change a word. Without dependencies; runs in
// Node and in the browser.

const BITS = 22; // fractional bits of Pillow's weights (Resample.c: PRECISION_BITS)
const GAP = 3; // beyond three times the size, blocks of pixels are averaged first
const FILTERS = {
  2: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) }, // bilinear
  3: { support: 2, weight: cubic }, // bicubic, a = -0.5
};

function cubic(x) {
  const a = -0.5, t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

/** Bring RGB or RGBA `data` of a photo to RGB of size x size, for the settings in preprocessor_config.json. */
export function fit(data, width, height, settings) {
  return resize(data, width, height, boxOf(width, height, settings), sizeOf(settings), settings.resample);
}

/**
 * Resize the part `box` (left, top, width, height) of RGB or RGBA `data` to RGB of `size` x `size`, as Pillow does: rows
 * and columns after each other, each rounded to 8 bits. `resample` is Pillow's number: 2 bilinear, 3 bicubic.
 */
function resize(data, width, height, box, size, resample) {
  const filter = FILTERS[resample];
  if (!filter) throw new Error(`resampling filter ${resample} is neither 2 (bilinear) nor 3 (bicubic)`);
  let image = { data, width, height, channels: data.length / (width * height) };
  let across = { from: box.left, to: box.left + box.width }, down = { from: box.top, to: box.top + box.height };
  const [columns, rows] = [across, down].map(({ from, to }) => Math.trunc((to - from) / size / GAP) || 1);
  if (columns > 1 || rows > 1) {
    const horizontal = readSpan(across, size, filter, width), vertical = readSpan(down, size, filter, height);
    image = blockMeans(image, horizontal, vertical, columns, rows);
    across = { from: (across.from - horizontal.first) / columns, to: (across.to - horizontal.first) / columns };
    down = { from: (down.from - vertical.first) / rows, to: (down.to - vertical.first) / rows };
  }
  const horizontal = weightsOf(image.width, across, size, filter), vertical = weightsOf(image.height, down, size, filter);
  const tall = image.height > size && image.height - size > 2 * (image.width - size); // the order of Pillow 13, by experiment
  const square = tall
    ? rowsResized(columnsResized(image, vertical), horizontal)
    : columnsResized(rowsResized(image, horizontal), vertical);
  return square.data;
}

/** Return the whole input places that the filter reads for the places `from` to `to`. */
function readSpan({ from, to }, size, filter, length) {
  const reach = (filter.support - 0.5) * ((to - from) / size);
  return { first: Math.max(0, Math.trunc(from - reach)), end: Math.min(length, Math.ceil(to + reach)) };
}

/** Average blocks of `columns` x `rows` pixels of a part; those at its right and lower edge may be smaller. */
function blockMeans({ data, width, channels }, across, down, columns, rows) {
  const wide = Math.ceil((across.end - across.first) / columns), high = Math.ceil((down.end - down.first) / rows);
  const out = new Uint8ClampedArray(wide * high * 3);
  for (let row = 0, place = 0; row < high; row++) {
    const top = down.first + row * rows, bottom = Math.min(down.end, top + rows);
    for (let column = 0; column < wide; column++) {
      const left = across.first + column * columns, right = Math.min(across.end, left + columns);
      const count = (bottom - top) * (right - left);
      const share = Math.trunc(Math.fround(2 ** 24 / count)); // Pillow divides in fp32
      for (let channel = 0; channel < 3; channel++) {
        let sum = count >> 1;
        for (let y = top; y < bottom; y++)
          for (let x = left; x < right; x++) sum += data[(y * width + x) * channels + channel];
        out[place++] = Math.floor((sum * share) / 2 ** 24);
      }
    }
  }
  return { data: out, width: wide, height: high, channels: 3 };
}

/** Return the first input place and the weights of each of `size` output places, for input from `from` to `to`. */
function weightsOf(length, { from, to }, size, filter) {
  const start = Math.fround(from), end = Math.fround(to); // Pillow's box is of 32 bits
  const scale = Math.fround(end - start) / size, stretch = Math.max(1, scale), support = filter.support * stretch, shrink = 1 / stretch;
  return Array.from({ length: size }, (_, place) => {
    const centre = start + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(filter.weight((x - centre + 0.5) * shrink));
    const sum = weights.reduce((a, b) => a + b, 0) || 1;
    const fixed = weights.map((w) => Math.trunc((w / sum) * 2 ** BITS + (w < 0 ? -0.5 : 0.5)));
    return { first, fixed };
  });
}

const rounded = (sum) => Math.min(255, Math.max(0, Math.floor((sum + 2 ** (BITS - 1)) / 2 ** BITS)));

/** Resize the rows of an image to `weights.length` places; return RGB. */
function rowsResized({ data, width, height, channels }, weights) {
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
  return { data: out, width: weights.length, height, channels: 3 };
}

/** Resize the columns of an image to `weights.length` places; return RGB. */
function columnsResized({ data, width, channels }, weights) {
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
  return { data: out, width, height: weights.length, channels: 3 };
}

/** Return the part of a photo that the model sees. */
function boxOf(width, height, settings) {
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
