// Caption photos with a captioner exported to ONNX:
//
//     captioner export shipped captioner-onnx --to onnx
//     npm install
//     node caption.mjs captioner-onnx photo.jpg ... [--precision int8] [--language-start ID]
//
// Prints one JSON object per photo. Nothing is downloaded.

import { readFile } from 'node:fs/promises';
import { dirname, basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { RawImage, env, pipeline } from '@huggingface/transformers';
import { fit, sizeOf } from '../pixels.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { precision: { type: 'string', default: 'fp32' }, 'language-start': { type: 'string' } },
});
const [model, ...photos] = positionals;
if (!photos.length) {
  console.error('usage: node caption.mjs MODEL PHOTO... [--precision fp32|int8] [--language-start ID]');
  process.exit(2);
}

const folder = resolve(model);
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const dtype = values.precision === 'int8' ? 'q8' : 'fp32';
const captioner = await pipeline('image-to-text', basename(folder), { dtype, device: 'cpu' });
const settings = JSON.parse(await readFile(join(folder, 'preprocessor_config.json'), 'utf8'));
const options = values['language-start'] ? { decoder_start_token_id: Number(values['language-start']) } : {};

for (const path of photos) {
  try {
    const [answer] = await captioner(await prepared(await RawImage.read(path)), options);
    console.log(JSON.stringify({ path, caption: answer.generated_text }));
  } catch (error) {
    console.log(JSON.stringify({ path, error: String(error.message ?? error) }));
    process.exitCode = 1;
  }
}

/** Resize as the captioner's training did; the pipeline then leaves the size as it is. */
async function prepared(photo) {
  const size = sizeOf(settings);
  if (size !== (settings.size.shortest_edge ?? settings.size.height)) return photo; // it would be resized once more
  const { data, width, height } = photo.rgb();
  return new RawImage(fit(data, width, height, settings), size, size, 3);
}
