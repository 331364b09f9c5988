"""Caption photos with torch, Pillow and tokenizers alone: python caption.py FOLDER PHOTO [PHOTO ...].

FOLDER is what `captioner export MODEL FOLDER --to torch` wrote. The captions are those of greedy search.
"""

import io
import json
import sys
from pathlib import Path

import torch
from PIL import Image, ImageCms, ImageOps
from tokenizers import Tokenizer

folder = Path(sys.argv[1])
settings = json.loads((folder / "captioner.json").read_text(encoding="utf-8"))
photo, text, cache, rules = (settings[part] for part in ("preprocess", "text", "past", "generation"))
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
encode, step = (torch.export.load(folder / name).module() for name in ("encoder.pt2", "step.pt2"))


def pixels(path: str) -> torch.Tensor:
    size, zoom, resample = photo["size"], photo["zoom"], Image.Resampling[photo["interpolation"].upper()]
    image = Image.open(path)
    image.draft(None, (round(2 * size * zoom),) * 2)  # a large JPEG is decoded at a smaller scale
    image, profile = ImageOps.exif_transpose(image), image.info.get("icc_profile")
    if profile and image.mode == "RGB":  # colours of a camera or screen
        source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, source, srgb)
    image = image.convert("RGB")
    if photo["aspect"] == "pad":
        color = tuple(round(255 * channel) for channel in photo["mean"])
        image = ImageOps.pad(image, (size, size), resample, color)
    else:  # squash keeps both sides, crop the largest centred square
        width, height = (side / zoom for side in (image.size if photo["aspect"] == "squash" else [min(image.size)] * 2))
        left, top = (image.width - width) / 2, (image.height - height) / 2
        image = image.resize((size, size), resample, (left, top, left + width, top + height), reducing_gap=3.0)
    values = torch.tensor(list(image.tobytes()), dtype=torch.float32).view(size, size, 3) / 255
    return ((values - torch.tensor(photo["mean"])) / torch.tensor(photo["std"])).movedim(-1, 0)[None]


def caption(path: str) -> str:
    states = encode(pixels(path))[0]
    past = [torch.zeros(1, cache["heads"], 0, cache["width"])] * cache["tensors"]
    tokens, size = [text["bos_id"], *rules.get("prefix", [])], rules["no_repeat_ngram"]
    unread = tokens
    for length in range(len(tokens), rules["max_tokens"] + 1):
        logits, *past = step(torch.tensor([unread]), states, past)
        scores, written = logits[0, -1], tokens[1:]
        if length < rules["min_tokens"]:
            scores[text["eos_id"]] = -torch.inf
        for end in range(size, len(written) + 1) if size else ():  # an n-gram of tokens occurs once
            if written[end - size : end - 1] == written[len(written) - size + 1 :]:
                scores[written[end - 1]] = -torch.inf
        tokens.append(int(scores.argmax()))
        unread = tokens[-1:]
        if tokens[-1] == text["eos_id"]:
            break
    return tokenizer.decode(tokens[1:])


if __name__ == "__main__":
    for path in sys.argv[2:]:
        with torch.inference_mode():
            print(f"{path}: {caption(path)}")
