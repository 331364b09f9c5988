"""An evaluation of a captioner's heads on held-out photos, as Markdown: retrieval, and reranking of candidates.

    python scripts/measure_heads.py --model DIR --data DATA --held-out FILE [--images 500] [--beams 5] [--draws 10]

The photos are those in FILE from the training split of DATA, as in `captioner finetune --held-out FILE`. Each is
encoded once, with one beam search and one set of samples; all rerankers then order the same candidates. A captioner
without heads gets only the rows that need no heads.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from captioner.captioning.batches import in_batches
from captioner.captioning.embeddings import embed_texts
from captioner.captioning.matching import match_captions
from captioner.checkpoint import load
from captioner.config import GenerationConfig, SamplingConfig
from captioner.data.loader import load_pixels
from captioner.data.samples import Sample
from captioner.evaluation.evaluate import fingerprint
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.rerank import ordered, rerank
from captioner.generation.sample import content_seed
from captioner.generation.search import search
from captioner.inference import AnyCheckpoint, prepare
from captioner.metrics.bleu import bleu
from captioner.metrics.cider import cider_d
from captioner.metrics.retrieval import retrieval
from captioner.metrics.words import words
from captioner.models.decoder import ImageMemory
from captioner.pipelines import choose_device
from captioner.training.setup import read_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--held-out")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--draws", type=int, default=10)
    args = parser.parse_args()
    samples = read_data([args.data], held_out=args.held_out, validation_images=args.images, report=print).validation
    checkpoint = prepare(load(args.model, device=choose_device()), "fp32", keep=False)
    penalty = checkpoint.generation.length_penalty
    ways = {
        f"{args.beams} beams": GenerationConfig(beams=args.beams, candidates=args.beams, length_penalty=penalty),
        f"{args.draws} draws": GenerationConfig(sampling=SamplingConfig(), candidates=args.draws),
    }
    heads = checkpoint.model.heads
    captions_of: dict[str, list[list[str]]] = {}
    embeddings: list[np.ndarray] = []
    right: list[tuple[float, float]] = []
    for part, pixels in loaded(checkpoint, samples):
        with torch.inference_mode():
            encoded = checkpoint.model.encode_image(pixels)
            memory = checkpoint.model.remember(encoded)
            if heads is not None:
                embeddings.append(heads.of_images(heads.pooled(encoded)).cpu().numpy())
        for way, config in ways.items():
            seeds = [content_seed(image, 0) for image in pixels] if config.sampling else None
            hypotheses = search(checkpoint.model.decoder, memory, checkpoint.config.text, config, seeds=seeds)
            for order, best in reranked(checkpoint, memory, hypotheses, config).items():
                texts = [checkpoint.tokenizer.decode(h.tokens) for h in best]
                captions_of.setdefault(f"{way}, by {order}", []).extend(words(text) for text in texts)
        if heads is not None and heads.match is not None:
            own = [[checkpoint.tokenizer.encode(c) for c in s.captions] for s in part]
            true, false = (match_captions(checkpoint, memory, ids) for ids in (own, [*own[1:], *own[:1]]))
            right += [
                (float(np.mean(np.array(a) > 0.5)), float(np.mean(np.array(b) < 0.5)))
                for a, b in zip(true, false, strict=True)
            ]

    print(f"{args.model or 'shipped model'}, {len(samples)} held-out images, data {fingerprint(samples)}\n")
    print("| candidates | BLEU-4 | CIDEr-D | distinct captions |\n|---|---|---|---|")
    references = [[words(caption) for caption in sample.captions] for sample in samples]
    for name, captions in captions_of.items():
        distinct = 100 * len({tuple(caption) for caption in captions}) / len(captions)
        scores = bleu(captions, references).bleu4, cider_d(captions, references).mean
        print(f"| {name} | {scores[0]:.2f} | {scores[1]:.2f} | {distinct:.1f} % |")
    if heads is not None:
        embedded = embed_texts(checkpoint, [c for s in samples for c in s.captions]).numpy()
        owner = np.repeat(np.arange(len(samples)), [len(s.captions) for s in samples])
        recall = retrieval(np.concatenate(embeddings) @ embedded.T, owner)
        print("\n| retrieval | R@1 | R@5 | R@10 |\n|---|---|---|---|")
        for name, row in (("a caption for a photo", recall.captions), ("the photo of a caption", recall.images)):
            print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in row) + " |")
    if right:
        true, false = 100 * np.mean(right, axis=0)
        print(f"\nmatching: {true:.1f} % of true captions accepted, {false:.1f} % of other photos' captions rejected")


def reranked(
    checkpoint: AnyCheckpoint, memory: ImageMemory, hypotheses: Sequence[list[Hypothesis]], config: GenerationConfig
) -> dict[str, list[Hypothesis]]:
    """Return the best candidate of each image by every reranker of the captioner, from the same candidates."""
    orders = {
        name: [rerank(group, replace(config, rerank=name), checkpoint.tokenizer) for group in hypotheses]
        for name in ("score", "consensus")
    }
    heads = checkpoint.model.heads
    if heads is not None and heads.match is not None:
        values = match_captions(checkpoint, memory, [[h.tokens for h in group] for group in hypotheses])
        orders["matching"] = [ordered(*pair) for pair in zip(hypotheses, values, strict=True)]
    return {name: [group[0] for group in groups] for name, groups in orders.items()}


def loaded(checkpoint: AnyCheckpoint, samples: Sequence[Sample]) -> Iterator[tuple[list[Sample], torch.Tensor]]:
    """Yield batches of samples and their pixels, on the model's device."""
    device = next(checkpoint.model.parameters()).device
    pixels = load_pixels((sample.path for sample in samples), checkpoint.config.preprocess)
    for batch in in_batches(zip(samples, pixels, strict=True), 16):
        for _, image in batch:
            if not isinstance(image, torch.Tensor):
                raise image
        yield [sample for sample, _ in batch], torch.stack([image for _, image in batch]).to(device)  # type: ignore[misc]


if __name__ == "__main__":
    main()
