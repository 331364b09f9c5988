"""Recipes: defaults, files, --set, and errors before the training."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.errors import ConfigError
from captioner.training.recipe import RECIPES, Stage, load_recipe
from captioner.training.tasks import TASKS


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_shipped_recipe_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.stages
    assert all(stage.task in TASKS for stage in recipe.stages)
    assert recipe.decoder_config(500).vocab_size == 500


def test_settings_go_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = 3\n[decoder]\nwidth = 64\nheads = 4\n[[stages]]\nlr = 1e-2\n[[stages]]\nepochs = 7\n")
    given = ["stages.1.lr=3e-4", "decoder.layers=2", "vision.backbone=test_vit", "vision.backbone_args.patch_size=8"]
    recipe = load_recipe(str(file), [*given, "stages.0.augment=true"])
    assert (recipe.seed, recipe.decoder_config(9).width, recipe.decoder_config(9).layers) == (3, 64, 2)
    assert [(stage.lr, stage.epochs, stage.augment) for stage in recipe.stages] == [(1e-2, 10, True), (3e-4, 7, False)]
    assert recipe.vision.backbone == "test_vit"
    assert recipe.vision.backbone_args == {"patch_size": 8}
    assert recipe.workers == 2


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("stages.0.epoch=3", "unknown setting stages[0].epoch; did you mean stages[0].epochs?"),
        ("sed=3", "unknown setting sed; did you mean seed?"),
        ("decoder.widht=3", "unknown setting decoder.widht; did you mean decoder.width?"),
        ("stages.9.lr=1", "--set stages.9.lr: 9 must be a number from 0 to 1"),
        ("stages.x.lr=1", "--set stages.x.lr: x must be a number from 0 to 1"),
        ("stages.².lr=1", "--set stages.².lr: ² must be a number from 0 to 1"),
        ("stages.0.lr.x=1", "--set stages.0.lr.x: lr is a value, not a table"),
        ("stages.0.lr", "--set 'stages.0.lr' must look like stages.0.lr=3e-4"),
        ("stages.0.lr=fast", "stages[0].lr must be a float, not 'fast'"),
        ("stages.0.lr=-1", "stage setting lr must be 0 or more, not -1.0"),
        ("stages.0.lr=NaN", "stage setting lr must be 0 or more, not nan"),
        ("stages.0.ema=1.5", "stage setting ema must lie between 0 and 1, not 1.5"),
        ("stages.1.vision=last:0", "stage setting vision must be frozen, all or last:N, not 'last:0'"),
        ("stages.1.vision=last:²", "stage setting vision must be frozen, all or last:N, not 'last:²'"),
        ("stages.0.accumulate=64", "a batch_size of 32 cannot be split into accumulate = 64"),
        ("adapter.rank=4", "setting adapter.method is missing"),
        ('adapter={"method": "dora"}', "adapter.method must be one of lora, adalora, prefix, not 'dora'"),
        ('adapter={"method": "lora", "rank": 0}', "adapter.rank must be at least 1, not 0"),
        ("precision=int8", "precision must be one of auto, fp32, bf16, fp16, not 'int8'"),
        ("captions_per_image=0", "captions_per_image and validation_images must be at least 1, and workers at least 0"),
        ("seed=" + "9" * 70, "the seed has too many digits; choose a whole number of at most 18"),
        ("stages=[]", "a recipe needs at least one [[stages]] table"),
        ("decoder.heads=5", "decoder.width 384 is not a multiple of decoder.heads 5"),
    ],
)
def test_a_slip_is_one_sentence(setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("default", [setting])
    assert str(caught.value) == said


def test_kept_features_exclude_new_views_and_a_changing_backbone() -> None:
    assert Stage(cache_features=True)
    assert Stage(cache_features=True, vision="last:2", views=4)
    with pytest.raises(ConfigError, match=r"views must be at least 2, .* not 1"):
        Stage(cache_features=True, views=1)
    for more in ({"augment": True}, {"vision": "all"}):
        with pytest.raises(ConfigError, match="cache_features stores the output of untrained layers"):
            Stage(cache_features=True, **more)  # type: ignore[arg-type]


def test_a_recipe_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recipe nope; choose one of .*default, .*finetune, flickr8k"):
        load_recipe("nope")
    (tmp_path / "bad.toml").write_text("seed = = 3")
    with pytest.raises(ConfigError, match=r"bad\.toml cannot be read"):
        load_recipe(str(tmp_path / "bad.toml"))


SIZED = """\
[[stages]]
epochs = 9
lr = 1e-2
[[stages]]
epochs = 8
[[sizes]]
images = 1000
stage = { epochs = 3 }
[[sizes]]
images = 100
stage = { epochs = 5, batch_size = 7 }
"""


@pytest.mark.parametrize(
    ("images", "epochs", "batch_size"), [(None, [9, 8], 16), (99, [9, 8], 16), (100, [5, 5], 7), (1000, [3, 3], 16)]
)
def test_the_size_of_the_set_chooses_a_row(
    tmp_path: Path, images: int | None, epochs: list[int], batch_size: int
) -> None:
    (tmp_path / "sized.toml").write_text(SIZED)
    stages = load_recipe(str(tmp_path / "sized.toml"), images=images).stages
    assert [stage.epochs for stage in stages] == epochs
    assert [stage.batch_size for stage in stages] == [batch_size] * 2
    assert [stage.lr for stage in stages] == [1e-2, 5e-4]


def test_settings_go_over_the_row(tmp_path: Path) -> None:
    (tmp_path / "sized.toml").write_text(SIZED)
    stages = load_recipe(str(tmp_path / "sized.toml"), ["stages.1.epochs=2"], images=500).stages
    assert [(stage.epochs, stage.batch_size) for stage in stages] == [(5, 7), (2, 7)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("images = 5", "setting sizes[0].stage is missing"),
        ("images = 5\nstage = { epoch = 3 }", "unknown setting sizes[0].stage.epoch; did you mean"),
        ("image = 5\nstage = { epochs = 3 }", "unknown setting sizes[0].image; did you mean sizes[0].images?"),
        ("images = 5\nstage = { epochs = 0 }", "epochs, batch_size, accumulate and validate_every must be at least 1"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_whatever_the_set(tmp_path: Path, row: str, said: str) -> None:
    (tmp_path / "sized.toml").write_text(f"[[sizes]]\n{row}\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(tmp_path / "sized.toml"))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(("name", "rows"), [("finetune", (20, 200, 2000)), ("lora", (20, 200, 2000))])
def test_the_shipped_recipes_give_every_set_enough_steps(name: str, rows: tuple[int, ...]) -> None:
    """Fewer images need more epochs: below some hundred steps nothing is learnt, some thousand take an hour."""
    for images in rows:
        (stage,) = load_recipe(name, images=images).stages
        assert 100 <= stage.epochs * (images // stage.batch_size) <= 1000
        assert stage.patience
