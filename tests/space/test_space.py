"""A space is a spec with ranges in it."""

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras_tuner
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reskeras
from reskeras.spec import DenseBlock, NormOrder, Recipe, StopEarly, TrainSpec
from reskeras.spec.recipes import training_recipe
from reskeras.tasks import Facts, Task, task_called
from tuning import Range, Space, sample
from tuning.oracles import make_oracle
from tuning.settings import ORACLES
from tuning.space import default_space, load_space
from tuning.space.recipes import derive_seed
from tuning.space.titles import title

CLASSIFICATION = task_called("classification")
SEGMENTATION = task_called("segmentation")


class Preset:
    """The part of Keras Tuner's HyperParameters that `sample` needs, over a dict: a trial replayed
    by hand."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def Int(self, name: str, *bounds: Any, **rest: Any) -> Any:  # noqa: N802
        return self.values.get(name)

    Float = Choice = Int

    def conditional_scope(self, *parents: Any) -> Any:
        return nullcontext()


def space(**vary: Any) -> Space:
    return Space(reskeras.preset("digits_basic"), vary)


def test_names_are_paths_and_their_short_forms_are_unambiguous() -> None:
    default = default_space(Facts((8, 8, 1), 10), CLASSIFICATION)
    assert default.short_names() == {
        "stages.*.blocks": "blocks",
        "block.kind": "block",
        "norm_order": "norm_order",
        "train.learning_rate": "lr",
    }
    clash = space(**{"stages.0.blocks": [1, 2], "stages.1.blocks": [1, 2], "stem.width": [8, 16]})
    assert clash.short_names() == {
        "stages.0.blocks": "0.blocks",
        "stages.1.blocks": "1.blocks",
        "stem.width": "width",
    }


@given(
    kind=st.sampled_from(["plain", "basic", "bottleneck", "dense"]),
    order=st.sampled_from(NormOrder.__args__),
    blocks=st.integers(1, 3),
    rate=st.floats(1e-3, 3e-2),
)
def test_a_sample_is_the_base_with_the_values_at_their_paths(
    kind: str, order: str, blocks: int, rate: float
) -> None:
    default = default_space(Facts((8, 8, 1), 10), CLASSIFICATION)
    values = {
        "block.kind": kind,
        "norm_order": order,
        "stages.*.blocks": blocks,
        "train.learning_rate": rate,
    }
    recipe = sample(Preset(values), default)
    assert (recipe.spec.block.kind, recipe.spec.norm_order, recipe.train.learning_rate) == (
        kind,
        order,
        rate,
    )
    assert {stage.blocks for stage in recipe.spec.stages} == {blocks}
    base = default.base
    same = dataclasses.replace(
        recipe.spec,
        block=base.spec.block,
        norm_order=base.spec.norm_order,
        stages=base.spec.stages,
    )
    assert same == base.spec
    assert sample(Preset(values), default) == recipe


def test_what_only_some_kinds_have_is_searched_only_for_those() -> None:
    dense = space(**{"block.kind": ["basic", "dense"], "block.growth_rate": [4, 8]})
    assert dense.condition("block.growth_rate") == ("block.kind", ["dense"])
    assert sample(
        Preset({"block.kind": "dense", "block.growth_rate": 8}), dense
    ).spec.block == DenseBlock(growth_rate=8)
    assert (
        sample(Preset({"block.kind": "basic", "block.growth_rate": 8}), dense).spec.block.kind
        == "basic"
    )
    oracle = make_oracle("random", dense, objective="val_loss", seed=1, epochs=1)
    seen = set()
    for _ in range(3):  # a basic one, and a dense one for each growth rate
        trial = oracle.create_trial("t")
        seen.add(sample(trial.hyperparameters, dense).spec.block)
        oracle.update_trial(trial.trial_id, {"val_loss": 1.0})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert {block.kind for block in seen} == {"basic", "dense"}
    assert len(seen) == 3


def test_a_space_survives_its_yaml(tmp_path: Path) -> None:
    made = Space(
        reskeras.preset("digits_dense"),
        {
            "block.bottleneck": [True, False],
            "stages.*.blocks": Range(low=2, high=6, step=2),
            "train.weight_decay": Range(low=0, high=0.1),
        },
    )
    (tmp_path / "space.yaml").write_text(made.dump())
    again = load_space("space.yaml")
    assert (again.base, again.vary) == (made.base, made.vary)
    hyperparameters = keras_tuner.HyperParameters()
    sample(hyperparameters, again)
    # Its text, because Keras Tuner turns booleans into numbers
    assert hyperparameters.get("block.bottleneck") == "true"
    assert sample(hyperparameters, again).spec.block.bottleneck is True


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({}, "vary: nothing varies"),
        (
            {"stages.*.bloks": [1]},
            "vary.stages.*.bloks: no such path in the spec; did you mean 'stages.*.blocks'?",
        ),
        ({"stages.9.blocks": [1]}, "no such path"),
        ({"norm_order": []}, "an empty list"),
        (
            {"norm_order": ["original", "preact"]},
            "norm_order: unknown value; did you mean 'full_preact'? (got 'preact')",
        ),
        (
            {"stages.*.blocks": {"low": 3, "high": 1}},
            "an empty range: low 3 must be less than high 1",
        ),
        (
            {"stages.*.blocks": {"low": 0, "high": 2}},
            "stages.0.blocks: input should be greater than 0 (got 0)",
        ),
        ({"stages.*.blocks": {"low": 1, "high": 2.5}}, "this is a whole number (got 1 to 2.5)"),
        ({"stages.*.width": [8, -8]}, "stages.0.width: input should be greater than 0 (got -8)"),
        ({"train.learning_rate": {"low": 0, "high": 1, "log": True}}, "must start above 0"),
        ({"train.learning_rate": {"low": 0.1, "hgh": 1}}, "high: this key is missing"),
        (
            {"train.learning_rate": 0.1},
            "a range is a list of values or {low: ..., high: ...} (got 0.1)",
        ),
        (
            {"stages.*.blocks": {"low": 1, "high": 3, "step": 0.5}},
            "this is a whole number (got 1 to 3 in steps of 0.5)",
        ),
        ({"head.classes": [3, 5]}, "head.classes: the data determine it"),
        ({"input_shape.0": [8, 16]}, "input_shape.0: the data determine it"),
        (
            {"block.kind": ["plain", "basic"], "block": ["x"]},
            "vary.block: this is not a single value; vary what is in it: block.kind",
        ),
        ({"family": ["resnet", "unet"]}, "a family cannot vary"),
        ({"train.seed": [1, 2]}, "a search has one seed"),
        ({"block.growth_rate": [4]}, "vary.block.growth_rate: no such path"),
        ({"stages.*.blocks": [1, 1]}, "a value is there twice"),
    ],
)
def test_ranges_that_cannot_be_searched_are_named(vary: dict[str, Any], message: str) -> None:
    with pytest.raises(reskeras.RequestError) as error:
        space(**vary)
    assert message in str(error.value)


def test_start_points_survive_the_file_and_wrong_ones_are_named(tmp_path: Path) -> None:
    vary = {
        "block.kind": ["plain", "basic"],
        "train.learning_rate": Range(low=1e-3, high=1e-1, log=True),
    }
    base = space(**vary).base
    first = Space(base, vary, start=[{"block.kind": "plain"}, {"train.learning_rate": 0.02}])
    (tmp_path / "space.yaml").write_text(first.dump())
    assert (
        load_space(tmp_path / "space.yaml").start == first.start == first.with_train(epochs=2).start
    )
    wrong = [{"block.kind": "dense"}, {"train.learning_rate": 1.0, "block.kin": "plain"}]
    with pytest.raises(reskeras.RequestError) as caught:
        Space(base, vary, start=wrong)
    assert str(caught.value).splitlines() == [
        "space: start.0: block.kind is one of plain, basic (got 'dense')",
        "space: start.1: train.learning_rate is a number from 0.001 to 0.1 (got 1.0)",
        "space: start.1: block.kin does not vary; did you mean 'block.kind'?",
    ]


def test_all_mistakes_of_a_space_are_named_at_once() -> None:
    with pytest.raises(reskeras.RequestError) as error:
        space(norm_order=["a"], **{"stages.*.bloks": [1], "train.epochs": {"low": 2, "high": 1}})
    assert len(str(error.value).splitlines()) == 3


def test_a_file_without_ranges_is_no_space(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(reskeras.dump_spec(reskeras.preset("resnet20")))
    with pytest.raises(reskeras.RequestError, match=r"net\.yaml: vary: this section is missing"):
        load_space("net.yaml")
    (tmp_path / "space.yaml").write_text(default_space(Facts((8, 8, 1), 10), CLASSIFICATION).dump())
    with pytest.raises(
        reskeras.RequestError,
        match=r"space\.yaml: vary: this is a search space; `reskeras tune` takes it",
    ):
        reskeras.load_spec("space.yaml")


@pytest.mark.parametrize(
    ("shape", "task"),
    [
        ((8, 8, 1), CLASSIFICATION),
        ((32, 32, 3), CLASSIFICATION),
        ((224, 224, 3), CLASSIFICATION),
        ((16, 24, 1), SEGMENTATION),
    ],
)
def test_every_default_space_reaches_all_kinds_and_orders(
    shape: tuple[int, int, int], task: Task
) -> None:
    default = default_space(Facts(shape, 5), task)
    assert default.vary["block.kind"] == ("plain", "basic", "bottleneck", "dense")
    assert default.vary["norm_order"] == NormOrder.__args__
    assert default.base.spec.head.classes == 5
    assert default.base.train.learning_rate == 0.005


@pytest.mark.parametrize(
    ("side", "images", "batch"),
    [
        (32, None, 64),
        (32, 50_000, 64),
        (32, 4267, 64),  # 400 steps of 64 in six epochs
        (32, 4266, 32),
        (32, 2000, 16),
        (32, 20, 16),
        (8, 1077, 64),
    ],
)
def test_few_images_are_trained_on_in_smaller_batches(
    side: int, images: int | None, batch: int
) -> None:
    for task in (CLASSIFICATION, SEGMENTATION):
        default = default_space(Facts((side, side, 1), 5, images=images), task)
        assert default.base.train.batch_size == batch


def values_of(name: str, seed: int, n: int) -> list[dict[str, Any]]:
    oracle = make_oracle(
        name,
        default_space(Facts((8, 8, 1), 10), CLASSIFICATION),
        objective="val_accuracy",
        seed=seed,
        epochs=3,
    )
    seen = []
    for number in range(n):
        trial = oracle.create_trial("t")
        seen.append(dict(trial.hyperparameters.values))
        oracle.update_trial(trial.trial_id, {"val_accuracy": (number * 7 % 5) / 5})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return seen


@pytest.mark.parametrize("name", ORACLES)
def test_a_seed_repeats_what_an_oracle_suggests(name: str) -> None:
    first = values_of(name, seed=0, n=7)
    assert first == values_of(name, seed=0, n=7)
    if name != "grid":
        assert first[1:] != values_of(name, seed=1, n=7)[1:]
    if name in ("random", "bayesian"):  # the base comes first, whatever the seed
        assert first[0] == {
            "block.kind": "basic",
            "stages.*.blocks": 1,
            "norm_order": "original",
            "train.learning_rate": 0.005,
        }


def test_neighboring_seeds_share_no_trials() -> None:
    # keras-tuner 1.4.8 alone: seeds 1 and 3 share nine of ten trials where two things vary.
    rates = [
        {values["train.learning_rate"] for values in values_of("random", seed, 10)[1:]}
        for seed in range(6)
    ]
    assert len(set.union(*rates)) == sum(map(len, rates))
    assert derive_seed(0) > 0


def test_unknown_oracles_are_refused() -> None:
    with pytest.raises(
        reskeras.RequestError, match="unknown oracle 'randon'; did you mean 'random'"
    ):
        make_oracle(
            "randon",
            default_space(Facts((8, 8, 1), 10), CLASSIFICATION),
            objective="val_loss",
            seed=0,
            epochs=1,
        )


def test_a_trial_is_told_in_a_line() -> None:
    default = default_space(Facts((8, 8, 1), 10), CLASSIFICATION)
    values = {
        "block.kind": "dense",
        "norm_order": "full_preact",
        "stages.*.blocks": 2,
        "train.learning_rate": 0.012345,
    }
    assert title(values, default) == "dense · full_preact · 2-2 · lr 0.0123"


def test_a_recipe_trains_a_space_for_its_own_epochs() -> None:
    how = TrainSpec(epochs=3, learning_rate=0.02, seed=4, class_weight="balanced")
    base = Recipe(spec=reskeras.preset("resnet20"), train=how)
    searched = Space(base, {"train.learning_rate": [0.02, 0.1], "train.optimizer": ["sgd", "lion"]})
    trained = searched.trained_by("he2016_cifar")
    recipe = training_recipe("he2016_cifar")
    kept = {"epochs": 3, "seed": 4, "class_weight": "balanced"}
    assert trained.base.train == dataclasses.replace(recipe, **kept)
    assert trained.vary == searched.vary
    found = trained.recipe({"train.optimizer": "lion", "train.learning_rate": 0.02}).train
    assert found == dataclasses.replace(recipe, optimizer="lion", learning_rate=0.02, **kept)


def test_a_rule_of_early_stopping_can_be_searched() -> None:
    how = TrainSpec(stop_early={"metric": "val_accuracy"})
    searched = Space(
        Recipe(spec=reskeras.preset("resnet20"), train=how),
        {"train.stop_early.patience": {"low": 2, "high": 9}, "train.ema": [0.0, 0.99]},
    )
    found = searched.recipe({"train.stop_early.patience": 5, "train.ema": 0.99}).train
    wanted = StopEarly(metric="val_accuracy", patience=5)
    assert (found.stop_early, found.ema) == (wanted, 0.99)
    with pytest.raises(
        reskeras.RequestError, match=r"vary.train.stop_early: this is not a single value"
    ):
        Space(searched.base, {"train.stop_early": [1, 2]})
