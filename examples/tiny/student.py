"""Build the untrained student of docs/compression.md: the teacher's eyes, and a small decoder.

    python examples/tiny/student.py TEACHER OUT --captions captions.txt ...

Backbone, labels and tokenizer are the teacher's, so the distillation encodes every photo once. Of the labels only those
stay that the captions name most often. The token embedding starts as the teacher's, projected on its first principal
components.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from captioner.checkpoint import Checkpoint, load, save
from captioner.compression.corpus import read_captions
from captioner.config import LabelsConfig
from captioner.metrics.nouns import LabelFinder
from captioner.models.captioner import Captioner


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", help="checkpoint directory")
    parser.add_argument("out", help="checkpoint directory to write")
    parser.add_argument("--captions", nargs="+", default=[], metavar="FILE", help="captions that choose the labels")
    parser.add_argument("--labels", type=int, default=128, help="number of labels (default: %(default)s)")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=3)
    args = parser.parse_args(argv)
    teacher = load(args.teacher)
    labels = frequent_labels(teacher, read_captions(args.captions), args.labels) if args.captions else []
    student = make_student(teacher, labels, width=args.width, layers=args.layers, heads=args.heads)
    print(f"{sum(p.numel() for p in student.model.parameters()) / 1e6:.1f}M parameters: {save(student, args.out)}")


def frequent_labels(teacher: Checkpoint, captions: Sequence[str], count: int) -> list[int]:
    """Return the indices of the ``count`` labels that most captions name, in their order."""
    if teacher.config.labels is None:
        return []
    finder = LabelFinder(teacher.config.labels.words)
    named = Counter(label for caption in captions for label in finder.find(caption))
    return sorted(label for label, _ in named.most_common(count))


@torch.no_grad()
def make_student(teacher: Checkpoint, labels: Sequence[int], *, width: int, layers: int, heads: int) -> Checkpoint:
    """Return a captioner with the teacher's backbone, the given ones of its labels, and a fresh decoder."""
    torch.manual_seed(0)
    config = teacher.config
    kept = None
    if labels and config.labels is not None:
        words = tuple(config.labels.words[n] for n in labels)
        kept = LabelsConfig(words=words, tokens=tuple(config.labels.tokens[n] for n in labels))
    decoder = replace(config.decoder, width=width, layers=layers, heads=heads)
    model = Captioner(replace(config, decoder=decoder, labels=kept, heads=None)).eval()
    model.vision.backbone.load_state_dict(teacher.model.vision.backbone.state_dict())
    model.vision.norm.load_state_dict(teacher.model.vision.norm.state_dict())
    if model.labeller is not None and teacher.model.labeller is not None:
        for own, other in zip(
            model.labeller.classify.parameters(), teacher.model.labeller.classify.parameters(), strict=True
        ):
            own.copy_(other[list(labels)])
    words_of_teacher = teacher.model.decoder.token_embedding.weight  # (V, D)
    _, _, components = torch.linalg.svd(words_of_teacher, full_matrices=False)
    model.decoder.token_embedding.weight.copy_(words_of_teacher @ components[:width].T)
    return replace(teacher, model=model, training={}, card="", source="")


if __name__ == "__main__":
    main()
