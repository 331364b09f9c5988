// The model in a thread of its own: photos in, captions out. Everything is loaded from beside this file.

import { Tensor, env, pipeline } from "./vendor/transformers.js";
import { fit, normalised, sizeOf } from "./pixels.js";

const MOST_PIXELS = 100e6; // of a photo; a canvas of more may fail without an error
env.allowLocalModels = true;
env.allowRemoteModels = false;
env.useBrowserCache = false; // the service worker keeps the files
env.localModelPath = new URL("./", import.meta.url).pathname;
env.backends.onnx.wasm.wasmPaths = new URL("./vendor/", import.meta.url).href;
// Half of the cores: threads that wait for each other spin, and on two busy cores two were slower than one.
const threads = self.crossOriginIsolated ? Math.floor((navigator.hardwareConcurrency || 1) / 2) : 1;
env.backends.onnx.wasm.numThreads = Math.min(4, Math.max(1, threads));

const sizes = new Map();
function progress(event) {
  if (event.status !== "progress" && event.status !== "done") return;
  if (event.total) sizes.set(event.file, [event.status === "done" ? event.total : event.loaded, event.total]);
  const sums = [...sizes.values()].reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0]);
  postMessage({ kind: "progress", loaded: sums[0], total: sums[1] });
}

const ready = pipeline("image-to-text", "model", { dtype: "q8", device: "wasm", progress_callback: progress });
ready.then(
  () => postMessage({ kind: "ready", threads: env.backends.onnx.wasm.numThreads }),
  (error) => postMessage({ kind: "broken", text: String(error?.message ?? error) }),
);

async function squareOf(file, settings) {
  const bitmap = await createImageBitmap(file); // turned by its EXIF, in sRGB
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error("it has more than 100 million pixels");
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // behind transparent pixels
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  return fit(data, width, height, settings);
}

async function captionOf(file) {
  const { model, processor, tokenizer } = await ready;
  const settings = processor.image_processor.config;
  const size = sizeOf(settings), square = await squareOf(file, settings);
  const pixels = new Tensor("float32", normalised(square, settings), [1, 3, size, size]);
  const tokens = await model.generate({ inputs: pixels });
  return tokenizer.batch_decode(tokens, { skip_special_tokens: true })[0].trim();
}

let queue = Promise.resolve(); // one photo at a time
addEventListener("message", ({ data: { id, file } }) => {
  queue = queue.then(() => captionOf(file)).then(
    (text) => postMessage({ kind: "caption", id, text }),
    (error) => postMessage({ kind: "failed", id, text: String(error?.message ?? error) }),
  );
});
