"""Model files and what is read from their answers."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agelens.align import CropGeometry
from agelens.errors import DamagedModelError, ModelError, TermsWarning, UnfitModelError
from agelens.estimate import (
    EstimateOptions,
    OnnxEstimator,
    check_probabilities,
    find_years,
    read_age,
    read_face,
    read_gender,
    read_quantile,
    read_year,
)
from agelens.groups import parse_groups
from agelens.modelspec import IntervalLevel, ModelSpec
from agelens.training.intervals import find_reach
from stand_in import SIZE, build_model, described, make_spec, model_bytes, with_metadata

YUNET = Path(__file__).parent / "assets" / "face_detection_yunet_2023mar.onnx"


def one_hot(year: int) -> np.ndarray:
    return (np.arange(101) == year).astype(np.float32)


def bell(mean: float, spread: float) -> np.ndarray:
    raised = np.exp(-0.5 * ((np.arange(101) - mean) / spread) ** 2)
    return (raised / raised.sum()).astype(np.float32)


def edges_of(distribution: np.ndarray) -> np.ndarray:
    distribution = distribution.astype(np.float64)
    return np.concatenate([[0.0], np.cumsum(distribution / distribution.sum())])


distributions = (
    hnp.arrays(np.float64, 101, elements=st.floats(0, 1))
    .filter(lambda d: d.sum() > 1e-3)
    .map(lambda d: (d / d.sum()).astype(np.float32))
)
grey_crops = np.stack([np.full((SIZE, SIZE, 3), level, np.uint8) for level in (0, 51, 128, 255)])


# The description ----------------------------------------------------------------------------------------------------


def test_a_description_survives_its_json() -> None:
    spec = make_spec(crop=CropGeometry(72, 0.31, 0.28), tasks=("age",), decode="median", coverage=0.8)
    assert ModelSpec.from_json(spec.to_json(), name="m") == spec


@given(
    st.lists(
        st.builds(
            IntervalLevel,
            st.integers(0, 50).map(float),
            st.integers(50, 200).map(float),
            st.sampled_from(["female", "male", "any"]),
            st.floats(0, 0.5),
            st.floats(0.5, 1),
        ),
        max_size=8,
    )
)
def test_levels_survive_to_four_digits_and_small_tails_to_seven(levels: list[IntervalLevel]) -> None:
    read = ModelSpec.from_json(make_spec(levels=tuple(levels)).to_json(), name="m").levels
    assert [(lv.low, lv.high, lv.gender) for lv in read] == [(lv.low, lv.high, lv.gender) for lv in levels]
    for before, after in zip(levels, read, strict=True):
        for wanted, found in ((before.lower, after.lower), (1 - before.upper, 1 - after.upper)):
            assert found == pytest.approx(wanted, abs=6e-5 if wanted > 9e-4 else 1e-7)


def test_one_number_is_the_share_inside_a_central_interval() -> None:
    spec = ModelSpec.from_json(changed("intervals.levels", [[0, 200, "any", 0.9]]), name="m")
    assert spec.levels == (IntervalLevel.central(0, 200, "any", 0.9),)
    assert (spec.levels[0].lower, spec.levels[0].upper) == pytest.approx((0.05, 0.95))


REQUIRED = (
    *("schema", "name", "version", "crop", "input", "tasks", "age", "gender", "intervals", "licence"),
    *("training_data", "metrics", "notes", "recipe", "crop.size", "input.name", "input.layout", "input.type"),
    *("input.colour", "age.output", "age.bins", "age.decode", "gender.output", "gender.labels"),
    *("intervals.coverage", "intervals.levels"),
)


def changed(path: str, value: Any) -> str:
    """The description with one value replaced; `...` leaves it out."""
    values = described()
    *outer, last = path.split(".")
    place = values
    for key in outer:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(values)


@pytest.mark.parametrize("path", REQUIRED)
def test_a_missing_part_is_refused_by_name(path: str) -> None:
    with pytest.raises(UnfitModelError, match=f"m.onnx.*{path.split('.')[-1]}"):
        ModelSpec.from_json(changed(path, ...), name="m.onnx")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("schema", value) for value in ("agelens.model/2", None, 1)),
        *(("crop", value) for value in (None, [], "64", {}, {"size": 64, "zoom": 2})),
        *(("crop.size", value) for value in (0, -1, "64", 64.5, None, [64])),
        *(("crop.eye_distance", value) for value in (0, 1, 2.5, "wide", None, math.nan)),
        *(("crop.eye_height", value) for value in (0, 1, -0.2, "high", None, math.nan)),
        *(("input", value) for value in (None, "crops")),
        *(("input.colour", value) for value in ("BGR", None)),
        ("input.layout", "NCHW"),
        ("input.type", "float32"),
        *(("tasks", value) for value in ([], None, 3, "age", ["race"], ["age", "race"], [["age"]])),
        *(("age", value) for value in (None, [], "median")),
        *(("age.decode", value) for value in ("mode", None, 1)),
        *(("age.bins", value) for value in ([0, 99], [1, 101], 101)),
        *(("gender.labels", value) for value in (["female", "male"], ["m", "f"], [])),
        *(("intervals", value) for value in (None, [], 0.9)),
        *(("intervals.coverage", value) for value in (None, "most", 0, 1, 1.5, -0.1, math.nan, [])),
        *(("intervals.levels", value) for value in (None, 3, [3], [[0, 200, "any"]], [[0, 200, "any", 0.9, 1]])),
        *(("intervals.levels", [[0, 200, "any", value]]) for value in (1.2, -0.1, "all", None, math.nan)),
        *(("intervals.levels", [[0, 200, "any", *ends]]) for ends in ((0.6, 0.9), (0.1, 0.4), (-0.1, 0.9), (0, 1, 1))),
        *(("intervals.levels", [[0, 200, value, 0.9]]) for value in ("x", "", None, 1, ["any"])),
        *(("intervals.levels", [[value, 40, "any", 0.9]]) for value in (41, "young", None, math.nan)),
        ("intervals.levels", [[10**400, 40, "any", 0.9]]),
        *(("training_data", value) for value in (None, 5)),
        *(("metrics", value) for value in (None, 5, "good")),
        *(("notes", value) for value in (None, 5)),
        *(("recipe", value) for value in (None, 5, "secret")),
    ],
)
def test_a_wrong_value_is_refused(path: str, value: Any) -> None:
    with pytest.raises(UnfitModelError, match=r"m\.onnx") as caught:
        ModelSpec.from_json(changed(path, value), name="m.onnx")
    assert caught.value.exit_status == 3


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"agelens"', "{}", "[" * 100_000, "\x00"])
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(UnfitModelError):
        ModelSpec.from_json(text, name="m")


def test_another_schema_says_which_and_what_to_do() -> None:
    with pytest.raises(UnfitModelError, match=r"agelens.model/9.*agelens.model/1.*export"):
        ModelSpec.from_json(changed("schema", "agelens.model/9"), name="m")


def test_the_first_level_that_covers_a_face_counts() -> None:
    spec = make_spec()
    assert spec.level_for(10.0, "female") == spec.levels[0]
    assert spec.level_for(10.0, "male") == spec.levels[1]
    assert spec.level_for(30.0, "female") == spec.levels[2]
    assert make_spec(levels=()).level_for(30.0, "female") == IntervalLevel.central(0, 200, "any", spec.coverage)


# The file -----------------------------------------------------------------------------------------------------------


def test_a_file_answers_as_its_graph_says() -> None:
    estimator = OnnxEstimator(model_bytes(), name="m")
    answers = estimator.estimate(grey_crops)
    assert answers.ages.shape == (4, 101)
    assert answers.female == pytest.approx(np.full(4, 0.5))
    assert answers.ages.argmax(axis=1).tolist() == [0, 20, 50, 100]
    red = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    red[..., 0] = 90
    assert estimator.estimate(red).female[0] > 0.99
    assert estimator.estimate(red[..., ::-1].copy()).female[0] < 0.01


def test_its_identity_is_its_name_and_sha256() -> None:
    data = model_bytes()
    assert OnnxEstimator(data, name="m").model.to_dict() == {
        "name": "stand-in",
        "sha256": hashlib.sha256(data).hexdigest(),
    }


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_the_size_of_batches_changes_nothing(batch_size: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (7, SIZE, SIZE, 3), dtype=np.uint8)
    whole = OnnxEstimator(model_bytes(), name="m", batch_size=7).estimate(crops)
    parts = OnnxEstimator(model_bytes(), name="m", batch_size=batch_size).estimate(crops)
    assert parts.ages == pytest.approx(whole.ages, abs=1e-6)
    assert parts.female == pytest.approx(whole.female, abs=1e-6)


def test_no_crops_give_no_answers() -> None:
    answers = OnnxEstimator(model_bytes(), name="m").estimate(np.zeros((0, SIZE, SIZE, 3), np.uint8))
    assert answers.ages.shape == (0, 101)
    assert answers.female.shape == (0,)


def test_eight_threads_get_what_one_gets() -> None:
    estimator = OnnxEstimator(model_bytes(), name="m")
    rng = np.random.default_rng(1)
    sets = [rng.integers(0, 256, (1 + n % 5, SIZE, SIZE, 3), dtype=np.uint8) for n in range(64)]
    alone = [estimator.estimate(crops) for crops in sets]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(estimator.estimate, sets))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.ages, other.ages)
        assert np.array_equal(one.female, other.female)


@pytest.mark.parametrize(
    ("data", "error", "told"),
    [
        (b"", DamagedModelError, "can't be opened"),
        (b"not a model", DamagedModelError, "can't be opened"),
        (YUNET.read_bytes(), UnfitModelError, "not one of agelens"),
        (with_metadata(None), UnfitModelError, "not one of agelens"),
        (with_metadata("{}"), UnfitModelError, "schema"),
        (model_bytes(batch=1), UnfitModelError, r"\[1, 32, 32, 3\]"),
        (model_bytes(scalar=True), ModelError, "m.onnx"),
        (with_metadata(make_spec(crop=CropGeometry(48)).to_json()), UnfitModelError, r"\[N, 48, 48, 3\]"),
    ],
    ids=["empty", "text", "detector", "undescribed", "hollow", "fixed batch", "scalar", "another size"],
)
def test_a_file_that_is_none_of_ours_is_refused(data: bytes, error: type[ModelError], told: str) -> None:
    with pytest.raises(error, match=told) as caught:
        OnnxEstimator(data, name="m.onnx")
    assert "m.onnx" in caught.value.message
    assert caught.value.exit_status == 3


@pytest.mark.parametrize("change", ["input", "age", "gender", "extra"])
def test_a_graph_that_differs_from_its_description_is_refused(change: str) -> None:
    model = build_model()
    if change == "input":
        for node in model.graph.node:
            node.input[:] = ["images" if name == "crops" else name for name in node.input]
        model.graph.input[0].name = "images"
    elif change == "age":
        del model.graph.output[0]
    elif change == "gender":
        del model.graph.output[1]
    else:
        model.graph.output.add().CopyFrom(model.graph.output[0])
        model.graph.output[2].name = "brightness"
        model.graph.output[2].type.tensor_type.shape.dim[1].dim_value = 1
    with pytest.raises(UnfitModelError, match="doesn't fit its description"):
        OnnxEstimator(model.SerializeToString(), name="m")


@pytest.mark.parametrize("gain", [math.nan, math.inf])
def test_broken_weights_are_refused_and_never_answered(gain: float) -> None:
    estimator = OnnxEstimator(model_bytes(gain=gain), name="m")
    with pytest.raises(UnfitModelError, match="weights are broken"):
        estimator.estimate(grey_crops[1:])


@pytest.mark.parametrize(
    ("ages", "female"),
    [
        (one_hot(3) * 2, 0.5),
        (one_hot(3) * 0, 0.5),
        (one_hot(3) - one_hot(4) + one_hot(5), 0.5),
        (one_hot(3) * np.nan, 0.5),
        (one_hot(3), 1.1),
        (one_hot(3), -0.1),
        (one_hot(3), np.nan),
    ],
)
def test_numbers_that_are_no_probabilities_are_refused(ages: np.ndarray, female: float) -> None:
    with pytest.raises(UnfitModelError, match="no probabilities"):
        check_probabilities(ages[None], np.array([female], np.float32), 1, "m")


def test_half_precision_is_probable_enough() -> None:
    check_probabilities(bell(30, 9)[None].astype(np.float16), np.array([1.0005], np.float32), 1, "m")


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, some bits flipped, a stretch overwritten, or a stretch taken out."""
    mutant = bytearray(data)
    at, length = int(rng.integers(0, len(data) - 40)), int(rng.integers(1, 32))
    kind = rng.integers(0, 4)
    if kind == 0:
        del mutant[at:]
    elif kind == 1:
        for place in rng.integers(0, len(data), length % 4 + 1):
            mutant[place] ^= 1 << int(rng.integers(0, 8))
    elif kind == 2:
        mutant[at : at + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    else:
        del mutant[at : at + length]
    return bytes(mutant)


def test_a_damaged_file_is_refused_or_works_but_never_crashes(capfd: pytest.CaptureFixture[str]) -> None:
    data, rng = model_bytes(), np.random.default_rng(7)
    refusals: list[ModelError] = []
    for _ in range(250):
        try:
            OnnxEstimator(mutate(data, rng), name="m").estimate(grey_crops)
        except (DamagedModelError, UnfitModelError) as error:
            refusals.append(error)
    assert len(refusals) > 150
    assert not any("\n" in error.message for error in refusals)
    assert capfd.readouterr().out == ""  # standard output is for results


def test_a_description_that_is_no_text_is_refused() -> None:
    data = model_bytes()
    assert data.count(b"for tests") == 1
    with pytest.raises(ModelError, match=r"m\.onnx"):
        OnnxEstimator(data.replace(b"for tests", b"for \xff\xfe\xff\xfe\xff"), name="m.onnx")


def test_running_a_model_leaves_small_numbers_alone() -> None:
    OnnxEstimator(model_bytes(), name="m").estimate(grey_crops)
    assert np.array([1e-310])[0] * 1.0 > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.finfo(np.float64).smallest_subnormal > 0


# Quantiles and ages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", range(101))
def test_one_certain_year_is_read_exactly(year: int) -> None:
    edges = edges_of(one_hot(year))
    assert read_quantile(edges, 0.5) == year
    assert read_quantile(edges, 0.0) == max(year - 0.5, 0.0)
    assert read_quantile(edges, 1.0) == min(year + 0.5, 100.0)
    assert read_quantile(edges, 0.25) == max(year - 0.25, 0.0)


@given(distributions, st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_quantiles_grow_with_their_share(distribution: np.ndarray, shares: list[float]) -> None:
    edges = edges_of(distribution)
    found = [read_quantile(edges, share) for share in sorted(shares)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(found))
    assert all(0 <= value <= 100 for value in found)


@given(distributions, st.floats(0.001, 0.999))
def test_a_quantile_has_its_share_below_it(distribution: np.ndarray, share: float) -> None:
    edges = edges_of(distribution)
    place = read_quantile(edges, share) + 0.5
    below = float(np.interp(place, np.arange(102), edges))
    if 0.5 < place < 100.5:  # beyond, it was clipped
        assert below == pytest.approx(share, abs=1e-6)


@given(distributions, st.floats(0, 1), st.sampled_from(["mean", "median", "year"]))
def test_years_lie_in_their_interval(distribution: np.ndarray, female: float, decode: str) -> None:
    age = read_age(distribution, female, make_spec(decode=decode), EstimateOptions())
    assert 0 <= age.low <= age.years <= age.high <= 100
    assert age.coverage == 0.9
    assert 0 <= age.group_probability <= 1
    assert sum(age.distribution) == pytest.approx(1)
    assert len(age.distribution) == 101


@pytest.mark.parametrize("decode", ["mean", "median", "year"])
@pytest.mark.parametrize("year", [0, 1, 31, 99, 100])
def test_a_certain_age_is_that_age(decode: str, year: int) -> None:
    age = read_age(one_hot(year), 0.0, make_spec(decode=decode), EstimateOptions())
    assert age.years == year
    assert age.high - age.low <= 1.0
    assert age.group_probability == 1.0


def test_mean_and_median_of_a_lopsided_distribution_differ() -> None:
    lopsided = 0.6 * one_hot(20) + 0.4 * one_hot(60)
    assert read_age(lopsided, 0.0, make_spec(decode="mean"), EstimateOptions()).years == pytest.approx(36)
    median = read_age(lopsided, 0.0, make_spec(decode="median"), EstimateOptions()).years
    assert median == pytest.approx(20 - 0.5 + 0.5 / 0.6, abs=1e-6)


@given(distributions)
def test_the_whole_year_is_the_one_with_the_smallest_expected_error(distribution: np.ndarray) -> None:
    year = read_age(distribution, 0.5, make_spec(decode="year"), EstimateOptions()).years
    assert year == int(year)
    shares = distribution.astype(np.float64) / distribution.astype(np.float64).sum()
    errors = np.abs(np.arange(101)[:, None] - np.arange(101)[None]) @ shares
    assert errors[int(year)] == pytest.approx(errors.min(), abs=1e-6)


@given(st.floats(5, 95), st.floats(1, 15), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_interval_holds_its_level_of_the_mass(mean: float, spread: float, level: float) -> None:
    spec = make_spec(levels=(IntervalLevel.central(0.0, 200.0, "any", level),), decode="median")
    distribution = bell(mean, spread)
    age = read_age(distribution, 0.2, spec, EstimateOptions())
    edges = edges_of(distribution)
    held = np.interp(age.high + 0.5, np.arange(102), edges) - np.interp(age.low + 0.5, np.arange(102), edges)
    assert held == pytest.approx(level, abs=0.03)  # clipped tails may hold a little


@given(distributions, st.floats(0, 1))
def test_a_whole_year_is_that_of_the_quantile(distribution: np.ndarray, share: float) -> None:
    edges, year = edges_of(distribution), read_year(edges_of(distribution), share)
    assert year in range(101)
    assert distribution[int(year)] > 0
    assert edges[int(year)] <= share + 1e-12
    assert share <= edges[int(year) + 1] + 1e-12
    assert find_years(edges, np.array([share, 0.5])).tolist() == [year, read_year(edges, 0.5)]


@pytest.mark.parametrize("year", [0, 30, 100])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_face_that_is_surely_of_one_year_is_of_that_year(year: int, share: float) -> None:
    assert read_year(edges_of(one_hot(year)), share) == year


def test_a_wider_level_gives_a_wider_interval() -> None:
    widths = []
    for level in (0.3, 0.6, 0.9, 0.99, 1.0):
        spec = make_spec(levels=(IntervalLevel.central(0.0, 200.0, "any", level),))
        age = read_age(bell(40, 6), 0.2, spec, EstimateOptions())
        widths.append(age.high - age.low)
    assert widths == sorted(widths)
    assert widths[0] < 6
    assert widths[-1] > 40


def test_an_interval_may_be_longer_on_one_side() -> None:
    spec = make_spec(levels=(IntervalLevel(0.0, 200.0, "any", 0.01, 0.7),), decode="median")
    age = read_age(bell(40, 6), 0.2, spec, EstimateOptions())
    assert age.low == pytest.approx(40 - 2.326 * 6, abs=0.2)
    assert age.high == pytest.approx(40 + 0.524 * 6, abs=0.2)


def test_the_level_follows_the_predicted_gender() -> None:
    spec = make_spec()
    as_female, as_male = (read_age(bell(20, 5), p, spec, EstimateOptions()) for p in (0.9, 0.1))
    assert as_female.high - as_female.low < as_male.high - as_male.low
    assert read_age(bell(20, 5), 0.5, spec, EstimateOptions()) == as_female


@pytest.mark.parametrize("decode", ["median", "year"])
@pytest.mark.parametrize("kind", ["smooth", "rough"])
def test_the_level_that_calibration_asks_for_reaches_the_true_age(kind: str, decode: str) -> None:
    rng = np.random.default_rng(3)
    raw = np.stack([bell(rng.uniform(5, 95), rng.uniform(2, 15)) for _ in range(200)])
    if kind == "rough":
        raw = rng.gamma(0.3, size=(200, 101)) + 1e-9
    distributions = raw / raw.sum(axis=1, keepdims=True)
    ages = rng.integers(1, 100, 200).astype(np.float64)
    first, last = (each[np.arange(200), ages.astype(int)] for each in find_reach(distributions, decode))
    tried = 0
    for distribution, age, needed in zip(distributions, ages, np.maximum(1 - 2 * first, 2 * last - 1), strict=True):
        for level, inside in ((min(needed + 1e-3, 1.0), True), (max(needed - 1e-3, 0.0), False)):
            if needed < 1e-2 or needed > 0.995:
                continue
            spec = make_spec(levels=(IntervalLevel.central(0, 200, "any", level),), decode=decode)
            told = read_age(distribution, 0.2, spec, EstimateOptions())
            assert (told.low - 1e-6 <= age <= told.high + 1e-6) == inside
            tried += 1
    assert tried > 50


def test_groups_and_their_probability_come_from_the_distribution() -> None:
    options = EstimateOptions(groups=parse_groups("0-17,18+"))
    age = read_age(0.7 * one_hot(10) + 0.3 * one_hot(40), 0.2, make_spec(), options)
    assert (age.group, age.group_probability) == ("0-17", pytest.approx(0.7))
    assert read_age(bell(28, 1), 0.2, make_spec(), EstimateOptions()).group == "(25, 32)"


# Gender -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("female", "threshold", "label"),
    [
        *((0.97, 0.5, "female"), (0.03, 0.5, "male"), (0.5, 0.5, "female"), (0.49999, 0.5, "male")),
        *((0.79, 0.8, "unknown"), (0.8, 0.8, "female"), (0.21, 0.8, "unknown"), (0.19, 0.8, "male")),
        *((1.0, 1.0, "female"), (0.999, 1.0, "unknown"), (1.0005, 0.5, "female"), (-1e-9, 0.5, "male")),
    ],
)
def test_a_label_is_given_from_the_threshold_on(female: float, threshold: float, label: str) -> None:
    gender = read_gender(female, EstimateOptions(gender_threshold=threshold))
    assert gender.label == label
    assert 0.5 <= gender.probability <= 1
    assert gender.probability == max(gender.female_probability, 1 - gender.female_probability)


@pytest.mark.parametrize(
    ("task", "tasks", "asked"),
    [
        ("both", ("age", "gender"), (True, True)),
        ("age", ("age", "gender"), (True, False)),
        ("gender", ("age", "gender"), (False, True)),
        ("both", ("age",), (True, False)),
        ("both", ("gender",), (False, True)),
        ("gender", ("age",), (False, False)),
    ],
)
def test_only_what_was_asked_and_can_be_told_is_told(
    task: Any, tasks: tuple[str, ...], asked: tuple[bool, bool]
) -> None:
    age, gender = read_face(bell(30, 4), 0.9, make_spec(tasks=tasks), EstimateOptions(task=task))
    assert (age is not None, gender is not None) == asked


def test_weights_for_research_say_so_when_they_are_opened() -> None:
    with pytest.warns(TermsWarning, match="for research and not for commercial use: research only"):
        OnnxEstimator(model_bytes(make_spec(licence="research only (a set)")), name="x")
    OnnxEstimator(model_bytes(make_spec(licence="MIT")), name="x")  # where a warning would be an error
