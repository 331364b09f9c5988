"""Store scores of the COCO tools in tests/golden/metrics.json, so that the tests need no Java.

    python scripts/make_golden.py [--data ../shared]

It needs pycocoevalcap and a Java runtime. It stores only scores and hashes of the dev captions, never the captions, and
the words of tests/golden/raw_text.txt. The slow tests use the functions of this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
Groups = list[list[str]]


def tool_words(captions: Sequence[str]) -> list[list[str]]:
    """Return the words of each caption by pycocoevalcap's PTBTokenizer, split at blanks like in its scorers.

    A line with one neutral word separates two captions, because the tool reads ahead into the next line.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    lines = [line for caption in captions for line in (caption, "x")]
    tokenized = PTBTokenizer().tokenize({0: [{"caption": line} for line in lines]})
    return [line.split() for line in tokenized[0][::2]]


def tool_scores(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> dict[str, float]:
    """Return BLEU-1 to 4, CIDEr(-D) and ROUGE-L of pycocoevalcap, from 0 to 100."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truth = {index: [" ".join(reference) for reference in group] for index, group in enumerate(references)}
    results = {index: [" ".join(candidate)] for index, candidate in enumerate(candidates)}
    bleu = Bleu(4).compute_score(truth, results, verbose=0)[0]
    cider = Cider().compute_score(truth, results)[0]
    rouge = Rouge().compute_score(truth, results)[0]
    return {
        **{f"bleu{n}": 100 * score for n, score in enumerate(bleu, 1)},
        "cider": 100 * float(cider),
        "rouge_l": 100 * float(rouge),
    }


def tool_meteor(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """Return METEOR of the corpus, then of each image, by pycocoevalcap, from 0 to 100."""
    from pycocoevalcap.meteor.meteor import Meteor

    truth = {index: [" ".join(reference) for reference in group] for index, group in enumerate(references)}
    results = {index: [" ".join(candidate)] for index, candidate in enumerate(candidates)}
    corpus, images = Meteor().compute_score(truth, results)
    return [100 * score for score in (corpus, *images)]


def raw_groups() -> Groups:
    """Return the captions of raw_text.txt, a paragraph per imagined image: the candidate, then its references."""
    paragraphs = (GOLDEN / "raw_text.txt").read_text(encoding="utf-8").strip("\n").split("\n\n")
    return [paragraph.split("\n") for paragraph in paragraphs]


def human_groups(captions: Path) -> Groups:
    """Return the captions of each image of a JSON lines file; the first of each is the candidate."""
    lines = captions.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["captions"] for line in lines if line.strip()]


def fingerprint(groups: Sequence[Sequence[object]]) -> str:
    """Return the SHA-256 of captions or of their words."""
    return hashlib.sha256(json.dumps(groups, ensure_ascii=False).encode()).hexdigest()


def split_groups(groups: Groups) -> list[list[list[str]]]:
    """Return the words of all captions in their groups, from one run of the tool."""
    words = iter(tool_words([caption for group in groups for caption in group]))
    return [[next(words) for _ in group] for group in groups]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CAPTIONER_DATA", ROOT.parent / "shared")))
    dev = parser.parse_args().data / "flickr8k" / "dev.jsonl"

    raw, human = raw_groups(), human_groups(dev)
    raw_words, human_words = split_groups(raw), split_groups(human)
    scores = {}
    for name, tokenized in (("raw", raw_words), ("human", human_words)):
        first, others = [group[0] for group in tokenized], [group[1:] for group in tokenized]
        scores[name] = {**tool_scores(first, others), "meteor": tool_meteor(first, others)[0]}
    golden = {
        "made by": "scripts/make_golden.py, with pycocoevalcap 1.2 and Stanford CoreNLP 3.4.1",
        "raw_text": {
            "scores": scores["raw"],
            "words": [[" ".join(words) for words in group] for group in raw_words],
        },
        "flickr8k dev, first caption against the others": {
            "captions_sha256": fingerprint(human),
            "words_sha256": fingerprint(human_words),
            "scores": scores["human"],
        },
    }
    text = json.dumps(golden, indent=1, ensure_ascii=False)
    (GOLDEN / "metrics.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
