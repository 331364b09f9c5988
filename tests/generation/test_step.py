"""The decoding step equals a whole forward pass, for any set of captions in the cache."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from captioner.generation.step import Start, Writing, to_sum_precision
from captioner.models.decoder import Decoder, ImageMemory

from ..reference import every_caption
from .conftest import TEXT

Make = Callable[..., tuple[Decoder, ImageMemory]]


@pytest.mark.parametrize("prefix", [(), (3,), (5, 4, 3, 9, 9)])
@torch.inference_mode()
def test_any_captions_under_way_are_a_forward_pass_of_each(prefix: tuple[int, ...], make: Make) -> None:
    """Captions branch, move and change in number, and images leave, before and after a step."""
    for seed in range(5):
        chance = random.Random(seed)
        decoder, memory = make(seed, images=4)
        writing = Writing(decoder, memory, TEXT, Start(captions=3, steps=7, prefix=prefix))
        said = [[list(prefix)] for _ in range(4)]
        alive = list(range(4))
        for _ in range(7):
            found = writing.next()
            assert found.dtype == torch.float32
            for row, image in enumerate(alive):
                alone = memory.select(torch.tensor([image]))
                wanted = every_caption.rows(decoder, alone, [tuple(s) for s in said[row]], TEXT.bos_id)
                torch.testing.assert_close(found[row].double(), torch.tensor(wanted).double(), atol=1e-4, rtol=0)
            count = chance.choice((1, 2, 3)) if found.shape[1] > 1 or chance.random() < 0.7 else 1
            leaves, early = chance.random() < 0.4 and len(alive) > 1, chance.random() < 0.5
            going = sorted(chance.sample(range(len(alive)), len(alive) - 1)) if leaves else list(range(len(alive)))
            if leaves and early:
                writing.keep(torch.tensor(going))
                alive, said = [alive[i] for i in going], [said[i] for i in going]
            parents = [[chance.randrange(len(s)) for _ in range(count)] for s in said]
            tokens = [[chance.randrange(12) for _ in range(count)] for _ in said]
            written, given = writing.with_token(0, parents[0][0], tokens[0][0])
            writing.advance(torch.tensor(parents), torch.tensor(tokens))
            said = [
                [[*s[p], t] for p, t in zip(ps, ts, strict=True)]
                for s, ps, ts in zip(said, parents, tokens, strict=True)
            ]
            assert written == said[0][0]
            assert given == pytest.approx(writing.log_probs[0, 0].tolist(), abs=1e-6)
            if leaves and not early:
                writing.keep(torch.tensor(going))
                alive, said = [alive[i] for i in going], [said[i] for i in going]
            assert writing.tokens.tolist() == said
            assert (writing.images, writing.captions) == (len(alive), count)
        for row, image in enumerate(alive):
            alone = memory.select(torch.tensor([image]))
            for caption, values in zip(said[row], writing.log_probs[row].tolist(), strict=True):
                given = [
                    every_caption.rows(decoder, alone, [tuple(caption[:place])], TEXT.bos_id)[0][token]
                    for place, token in enumerate(caption)
                ]
                assert values == pytest.approx(given, abs=1e-4)


@torch.inference_mode()
def test_each_image_may_begin_in_words_of_its_own(make: Make) -> None:
    decoder, memory = make(1, images=3)
    prefixes = [[3, 4], [5, 5], [9, 3]]
    writing = Writing(decoder, memory, TEXT, Start(captions=1, steps=3, prefix=prefixes))
    found = writing.next()
    for image, prefix in enumerate(prefixes):
        alone = memory.select(torch.tensor([image]))
        [wanted] = every_caption.rows(decoder, alone, [tuple(prefix)], TEXT.bos_id)
        assert found[image, 0].tolist() == pytest.approx(wanted, abs=1e-4)
        begun = every_caption.begin(decoder, alone, tuple(prefix), TEXT.bos_id)
        assert writing.log_probs[image].sum().item() == pytest.approx(begun.log_prob, abs=1e-4)


def test_sums_are_wide() -> None:
    assert to_sum_precision(torch.zeros(3)).dtype == torch.float64
    assert to_sum_precision(torch.zeros(3, device="meta")).dtype == torch.float64
