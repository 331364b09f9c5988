// The captions of Node for scripts/bench_runtimes.py, which copies this file into a folder with node_modules:
//
//     node caption_node.mjs MODEL DTYPE MODE LIST
//
// MODE: `pixels` (files of fp32 pixels, 3 x size x size), `files` (photos, resized as Pillow does) or `pipeline`
// (photos, resized by transformers.js). LIST is a JSON file with the paths. Prints one JSON object.

import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AutoModelForVision2Seq, AutoTokenizer, RawImage, Tensor, env, pipeline } from '@huggingface/transformers';
import { fit, sizeOf } from './pixels.mjs';

const [folder, dtype, mode, list] = process.argv.slice(2);
const paths = JSON.parse(await readFile(list, 'utf8'));
const name = basename(folder);
const options = { dtype, device: 'cpu' };
if (process.env.THREADS) options.session_options = { intraOpNumThreads: Number(process.env.THREADS) };
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const settings = JSON.parse(await readFile(join(folder, 'preprocessor_config.json'), 'utf8'));
const size = sizeOf(settings);

const caption = mode === 'pixels' ? await ofPixels() : await ofPhotos();
const first = await caption(paths[0]);
const cold = times();
const captions = [first];
for (const path of paths.slice(1)) captions.push(await caption(path));
const seconds = times().map((time, place) => time - cold[place]);
console.log(JSON.stringify({ captions, seconds, cold, status: await readFile('/proc/self/status', 'utf8') }));

/** Seconds of the CPU and of the clock since the process began. */
function times() {
  const { user, system } = process.cpuUsage();
  return [(user + system) / 1e6, performance.now() / 1e3];
}

async function ofPixels() {
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  const model = await AutoModelForVision2Seq.from_pretrained(name, options);
  return async (path) => {
    const bytes = await readFile(path);
    const pixels = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    const inputs = new Tensor('float32', pixels.slice(), [1, 3, size, size]);
    const tokens = await model.generate({ inputs });
    return tokenizer.batch_decode(tokens, { skip_special_tokens: true })[0].trim();
  };
}

async function ofPhotos() {
  const captioner = await pipeline('image-to-text', name, options);
  return async (path) => {
    let photo = (await RawImage.read(path)).rgb();
    if (mode === 'files') {
      photo = new RawImage(fit(photo.data, photo.width, photo.height, settings), size, size, 3);
    }
    return (await captioner(photo))[0].generated_text;
  };
}
