// Pillow's resize in JavaScript, bit for bit: `Image.resize(..., reducing_gap=3.0)` on 8-bit RGB.
//
// transformers.js resizes without smoothing, so a photo that shrinks gets other pixels than the captioner was trained
// on. Without dependencies; runs in Node and in the browser.

const BITS = 22; // of a coefficient's fraction, as in Pillow's Resample.c
const GAP = 3; // beyond three times the size, blocks of pixels are averaged first

const FILTERS = {
  2: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) }, // bilinear
  3: { reach: 2, weight: cubic }, // bicubic, a = -0.5
};

function cubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/** Resize `data` (height x width x 3 bytes) to a square of `size` pixels; `resample` is Pillow's number, 2 or 3. */
export function squash(data, width, height, size, resample = 3) {
  const filter = FILTERS[resample];
  const factors = [width, height].map((side) => Math.trunc(side / size / GAP) || 1);
  let image = { data, width, height };
  if (factors[0] > 1 || factors[1] > 1) image = reduced(image, ...factors);
  const used = [width / factors[0], height / factors[1]].map(Math.fround); // a box of Pillow is fp32
  const rows = (given) => resampled(given, size, used[0], filter);
  const columns = (given) => transposed(resampled(transposed(given), size, used[1], filter));
  const tall = image.height > size && image.height - size > 2 * (image.width - size); // Pillow's order, by experiment
  return (tall ? rows(columns(image)) : columns(rows(image))).data;
}

/** Average blocks of `across` x `down` pixels; those at the right and lower edge may be smaller. */
function reduced({ data, width, height }, across, down) {
  const columns = Math.ceil(width / across);
  const rows = Math.ceil(height / down);
  const out = new Uint8Array(columns * rows * 3);
  for (let y = 0; y < rows; y++) {
    const last = Math.min(height, (y + 1) * down);
    for (let x = 0; x < columns; x++) {
      const end = Math.min(width, (x + 1) * across);
      const count = (last - y * down) * (end - x * across);
      const share = Math.trunc(Math.fround(2 ** 24 / count)); // Pillow divides in fp32
      for (let c = 0; c < 3; c++) {
        let sum = count >> 1;
        for (let row = y * down; row < last; row++)
          for (let column = x * across; column < end; column++) sum += data[(row * width + column) * 3 + c];
        out[(y * columns + x) * 3 + c] = Math.floor((sum * share) / 2 ** 24);
      }
    }
  }
  return { data: out, width: columns, height: rows };
}

/** Resize the rows of an image, of which the first `used` pixels count, to `size` pixels. */
function resampled({ data, width, height }, size, used, { reach, weight }) {
  if (width === size && used === size) return { data, width, height };
  const out = new Uint8Array(size * height * 3);
  const scale = used / size;
  const wide = Math.max(scale, 1);
  for (let x = 0; x < size; x++) {
    const centre = (x + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * wide + 0.5));
    const end = Math.min(width, Math.trunc(centre + reach * wide + 0.5));
    const weights = [];
    for (let at = first; at < end; at++) weights.push(weight((at - centre + 0.5) * (1 / wide)));
    const total = weights.reduce((sum, value) => sum + value, 0);
    const whole = weights.map((value) => {
      const part = total === 0 ? value : value * (1 / total);
      return Math.trunc((part < 0 ? -0.5 : 0.5) + part * 2 ** BITS);
    });
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < 3; c++) {
        let sum = 2 ** (BITS - 1);
        for (let at = first; at < end; at++) sum += data[(y * width + at) * 3 + c] * whole[at - first];
        out[(y * size + x) * 3 + c] = Math.min(255, Math.max(0, sum >> BITS));
      }
    }
  }
  return { data: out, width: size, height };
}

/** Exchange rows and columns. */
function transposed({ data, width, height }) {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++) out[(x * height + y) * 3 + c] = data[(y * width + x) * 3 + c];
  return { data: out, width: height, height: width };
}
