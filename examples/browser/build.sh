#!/bin/sh
# Build the page into a folder that any web server can serve: sh build.sh OUT [MODEL]
# It needs captioner with the extra onnx, npm, and a network once. MODEL is by default the one that ships.
set -eu
out=${1:?usage: sh build.sh OUT [MODEL]}
model=${2:-shipped}
here=$(cd "$(dirname "$0")" && pwd)
transformers=4.3.2  # @huggingface/transformers; its package.json names the onnxruntime-web that it was built with
if [ -e "$out" ]; then echo "$out exists already; choose another folder" >&2; exit 1; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { # NAME@VERSION FOLDER: download and unpack one package; npm checks its digest
  mkdir -p "$work/$2"
  (cd "$work" && npm pack --silent --pack-destination "$work/$2" "$1" >/dev/null)
  tar -xzf "$work/$2"/*.tgz -C "$work/$2" --strip-components=1
}
if [ -n "${CAPTIONER_VENDOR:-}" ]; then  # packages that are here already: a node_modules folder
  mkdir -p "$work/transformers" "$work/ort"
  cp -r "$CAPTIONER_VENDOR/@huggingface/transformers/." "$work/transformers"
  cp -r "$CAPTIONER_VENDOR/onnxruntime-web/." "$work/ort"
else
  fetch "@huggingface/transformers@$transformers" transformers
  ort=$(sed -n 's/.*"onnxruntime-web": *"\([^"]*\)".*/\1/p' "$work/transformers/package.json" | head -n 1)
  fetch "onnxruntime-web@$ort" ort
fi

mkdir -p "$work/site/vendor"
cp "$here"/*.html "$here"/*.css "$here"/*.js "$here"/*.svg "$work/site"
cp "$here/../pixels.mjs" "$work/site/pixels.js"  # some web servers do not know .mjs
# transformers.js without its engine, whose names a browser cannot resolve, and the smallest engine: CPU, SIMD, threads.
sed -e 's#"onnxruntime-web/webgpu"#"./ort.js"#' -e 's#"onnxruntime-common"#"./ort.js"#' \
  "$work/transformers/dist/transformers.web.min.js" >"$work/site/vendor/transformers.js"
cp "$work/ort/dist/ort.wasm.min.mjs" "$work/site/vendor/ort.js"
cp "$work/ort/dist/ort-wasm-simd-threaded.wasm" "$work/site/vendor"
cp "$work/ort/dist/ort-wasm-simd-threaded.mjs" "$work/site/vendor"
cp "$work/transformers/LICENSE" "$work/site/vendor/transformers.LICENSE"

"${PYTHON:-python}" -m captioner export "$model" "$work/model" --to onnx >/dev/null
mkdir -p "$work/site/model/onnx"
cp "$work/model"/*.json "$work/site/model"
cp "$work/model"/onnx/*_quantized.onnx "$work/site/model/onnx"

digest=$(cd "$work/site" && find . -type f | sort | xargs cat | cksum | cut -d ' ' -f 1)
sed -i.old "s/captions-BUILD/captions-$digest/" "$work/site/service-worker.js" && rm "$work/site/service-worker.js.old"
mv "$work/site" "$out"
echo "$out: $(du -sk "$out" | cut -f 1) KB; serve it: python -m http.server -d $out"
