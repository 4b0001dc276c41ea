"""From pictures to an evaluation: faces, failures, folds, leaks; and two evaluations compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agelens.analyzer import Analyzer
from agelens.datasets.manifest import Manifest
from agelens.datasets.rows import Row
from agelens.errors import DamagedDatasetError, EmptyDatasetError, LeakError, NotFoundError, UsageError
from agelens.estimate import OnnxEstimator
from agelens.evaluation.compare import compare
from agelens.evaluation.gather import chance_inside, choose_face, label_bands
from agelens.evaluation.leaks import find_leak_reasons, find_used
from agelens.evaluation.markdown import warnings
from agelens.evaluation.predictions import Predictions
from agelens.evaluation.protocol import Folds, load_protocol
from agelens.evaluation.result import DataFacts, Evaluation, ModelFacts, Origin
from agelens.evaluation.run import EvaluateOptions, evaluate, summarise
from agelens.types import Age, Box, Face, ModelId, Report
from evaluation_makers import EXACT, make_set, random_predictions
from stand_in import make_spec, model_bytes, write_model

OPTIONS = EvaluateOptions(rounds=20, least=3, threads=1, device="cpu")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_set(tmp_path_factory.mktemp("set"), count=8, blank=2, broken=1)


def estimator(**changes: object) -> OnnxEstimator:
    return OnnxEstimator(model_bytes(make_spec(**changes)), name="stand-in")


@pytest.fixture(scope="module")
def evaluation(manifest: Manifest) -> Evaluation:
    return evaluate(estimator(), manifest, options=OPTIONS)


def test_every_picture_is_accounted_for(evaluation: Evaluation, manifest: Manifest) -> None:
    data = evaluation.data
    assert (data.pictures, data.not_found, dict(data.unreadable)) == (11, 2, {"truncated_image": 1})
    assert data.failed == 3
    assert data.subjects == 6
    assert data.fingerprint == manifest.fingerprint
    assert evaluation.figures["mae"].faces == 8
    assert any("gave no face" in alarm for alarm in evaluation.alarms)
    assert evaluation.predictions is not None
    assert evaluation.predictions.path.tolist() == manifest.columns.path.tolist()


def test_answers_are_those_of_the_corridor(evaluation: Evaluation, manifest: Manifest) -> None:
    said = evaluation.predictions
    assert said is not None
    analyzer = Analyzer(estimator=estimator(), threads=1, device="cpu")
    for index in (0, 5):
        face = analyzer.predict(manifest.root / manifest.columns.path[index])[0]
        assert said.years[index] == round(face.age.years, 2)
        assert said.female_probability[index] == round(face.gender.female_probability, 4)
        assert said.face_size[index] == max(face.box.width, face.box.height)
    expected = np.abs(said.years - said.age_low)[said.found].mean()
    assert evaluation.figures["mae"].value == pytest.approx(expected)


def test_round_trip(evaluation: Evaluation, tmp_path: Path) -> None:
    path = evaluation.save(tmp_path / "out")
    read = Evaluation.load(path, with_predictions=True)
    assert read.to_dict() == replace(evaluation, predictions_sha256=read.predictions_sha256).to_dict()
    assert read == replace(evaluation, predictions_sha256=read.predictions_sha256)
    for name in Predictions.__slots__:
        assert np.array_equal(
            getattr(read.predictions, name),
            getattr(evaluation.predictions, name),
            equal_nan=getattr(read.predictions, name).dtype.kind == "f",
        ), name
    assert Evaluation.load(tmp_path / "out") == read


def test_damaged_evaluations_are_refused(evaluation: Evaluation, tmp_path: Path) -> None:
    path = evaluation.save(tmp_path)
    other = random_predictions(5)
    other.save(tmp_path / "predictions.npz")
    with pytest.raises(DamagedDatasetError, match="does not belong"):
        Evaluation.load(path, with_predictions=True)
    (tmp_path / "predictions.npz").write_bytes(other.to_bytes()[:200])
    with pytest.raises(DamagedDatasetError, match="was cut"):
        Evaluation.load(path, with_predictions=True)
    (tmp_path / "predictions.npz").unlink()
    with pytest.raises(NotFoundError, match="predictions"):
        Evaluation.load(path, with_predictions=True)
    text = path.read_text()
    for wrong, match in (
        (text[:300], "no JSON"),
        ("[]", "schema None"),
        (text.replace('"figures"', '"figs"'), "again"),
    ):
        path.write_text(wrong)
        with pytest.raises(DamagedDatasetError, match=match):
            Evaluation.load(path)
    with pytest.raises(NotFoundError):
        Evaluation.load(tmp_path / "none.json")


def test_a_limit_takes_the_same_rows_each_time(manifest: Manifest) -> None:
    first, second = (evaluate(estimator(), manifest, options=replace(OPTIONS, limit=5)) for _ in range(2))
    assert first.data.fingerprint == second.data.fingerprint
    assert first.data.pictures == 5
    assert first.data.part == "5 rows of all"


def test_crops_need_no_detection(tmp_path: Path) -> None:
    manifest = make_set(tmp_path, count=3, blank=2, broken=1)
    found = evaluate(estimator(), manifest, options=replace(OPTIONS, crops=True))
    assert found.origin.mode == "crops"
    assert found.data.not_found == 0
    assert dict(found.data.unreadable) == {"truncated_image": 1}
    assert found.figures["mae"].faces == 5


def test_a_pack_is_evaluated_like_files(manifest: Manifest) -> None:
    from agelens.datasets.inspect import open_prepared_pixels

    rows = manifest.take(np.arange(8))
    pixels_of = open_prepared_pixels(Path("x.jsonl"), rows)
    from_files = evaluate(estimator(), rows, options=OPTIONS)
    from_pixels = evaluate(estimator(), rows, options=OPTIONS, pixels_of=pixels_of)
    assert from_files.figures == from_pixels.figures


def test_progress_counts_every_picture(manifest: Manifest) -> None:
    calls: list[tuple[int, int]] = []
    evaluate(estimator(), manifest, options=OPTIONS, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(number, 11) for number in range(1, 12)]


def test_nothing_to_evaluate(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split 'val'; it has: none"):
        evaluate(estimator(), manifest, options=replace(OPTIONS, split="val"))
    with pytest.raises(EmptyDatasetError, match="no row"):
        evaluate(estimator(), manifest, replace(EXACT, min_age=119), OPTIONS)
    blank = make_set(tmp_path, count=0, blank=4)
    with pytest.raises(EmptyDatasetError, match="no face was found"):
        evaluate(estimator(), blank, options=OPTIONS)


def test_a_protocol_for_other_data_is_refused(manifest: Manifest) -> None:
    with pytest.raises(UsageError, match="is for fairface"):
        evaluate(estimator(), manifest, "fairface", OPTIONS)


# Leaks


def test_the_model_was_trained_on_these_pictures(manifest: Manifest) -> None:
    seen = estimator(recipe={"data": manifest.fingerprint})
    with pytest.raises(LeakError, match="trained on these very pictures"):
        evaluate(seen, manifest, options=OPTIONS)
    found = evaluate(seen, manifest, options=replace(OPTIONS, allow_leak=True))
    assert len(found.leaks) == 1
    assert Evaluation.from_dict(found.to_dict()).leaks == found.leaks


def test_the_test_part_of_the_training_manifest_is_fair(manifest: Manifest) -> None:
    split = np.array(["test" if number < 6 else "train" for number in range(len(manifest))], dtype=object)
    divided = manifest.with_splits(split)
    seen = estimator(recipe={"data": [divided.fingerprint]})
    found = evaluate(seen, divided, options=OPTIONS)
    assert (found.data.part, found.data.pictures, found.leaks) == ("test", 6, ())
    for part, match in (("train", "outside its test part"), ("all", "these very pictures")):
        with pytest.raises(LeakError, match=match):
            evaluate(seen, divided, options=replace(OPTIONS, split=part))


def test_near_duplicates_and_people_of_the_training_manifest(manifest: Manifest) -> None:
    with pytest.raises(LeakError, match=r"people of the tested pictures.*near-duplicates"):
        evaluate(estimator(), manifest, options=replace(OPTIONS, training=manifest))
    tested = manifest.with_splits(np.array(["test"] * len(manifest), dtype=object))
    assert evaluate(estimator(), manifest, options=replace(OPTIONS, training=tested)).leaks == ()


def test_a_leaky_manifest_is_stamped(manifest: Manifest) -> None:
    leaky = replace(manifest, leaky=True)
    with pytest.raises(LeakError, match="prepared with leaks"):
        evaluate(estimator(), leaky, options=OPTIONS)


def apart(manifest: Manifest) -> tuple[Manifest, np.ndarray]:
    """The set in three folds, by person, its own test part in fold 0; and which rows are in fold 1."""
    fold = (np.arange(len(manifest)) // 2 % 3).astype(np.int16)
    split = np.where(fold == 0, "test", "train").astype(object)
    columns = replace(manifest.columns, fold=fold, split=split, group=np.full(len(manifest), -1, np.int32))
    return replace(manifest, columns=columns), fold == 1


@pytest.mark.parametrize("whose", ["own", "of the start"])
def test_who_left_a_fold_out_has_learned_from_the_test_part(manifest: Manifest, whose: str) -> None:
    divided, left_out = apart(manifest)
    entry = {"data": divided.fingerprint, "held_out": "1"}
    seen = estimator(recipe=entry if whose == "own" else {"seen": [entry]})
    with pytest.raises(LeakError, match=r"outside what it left out \('1'\) \(test\) are to be evaluated"):
        evaluate(seen, divided, "plain", OPTIONS)
    rightful = divided.with_splits(np.where(left_out, "test", "train").astype(object))
    entry["data"] = rightful.fingerprint
    seen = estimator(recipe=entry if whose == "own" else {"seen": [entry]})
    found = evaluate(seen, rightful, "plain", OPTIONS)
    assert (found.data.pictures, found.leaks) == (left_out.sum(), ())
    with pytest.raises(LeakError, match="outside what it left out"):
        evaluate(seen, rightful, "plain", replace(OPTIONS, split="train"))


def test_what_is_linked_to_the_fold_was_left_out_with_it(manifest: Manifest) -> None:
    divided, left_out = apart(manifest)
    subject = divided.columns.subject.copy()
    subject[0] = subject[np.flatnonzero(left_out)[0]]
    linked = replace(divided, columns=replace(divided.columns, subject=subject))
    assert find_used(linked, "1").tolist() == [index > 0 and not out for index, out in enumerate(left_out)]
    assert find_used(linked, "").tolist() == (linked.columns.split != "test").tolist()
    assert find_used(linked, "person2").tolist() == [name != "person2" for name in subject]
    assert find_used(linked, "nobody").all()


def test_the_training_manifest_less_the_fold_is_what_was_learned_from(manifest: Manifest) -> None:
    divided, left_out = apart(manifest)
    seen = estimator(recipe={"held_out": "1"})
    options = replace(OPTIONS, training=divided, split="all")
    assert evaluate(seen, divided.take(left_out), "plain", options).leaks == ()
    with pytest.raises(LeakError, match="people of the tested pictures"):
        evaluate(seen, divided.take(divided.columns.split == "test"), "plain", options)
    assert evaluate(estimator(), divided.take(divided.columns.split == "test"), "plain", options).leaks == ()


@pytest.mark.parametrize(
    ("name", "dataset", "is_named"),
    [
        ("All-Age-Faces, 6,493 pictures", "aaf", True),
        ("table: aaf, utkface (12bbf34567cd)", "utkface", True),
        ("HSE_FaceRec_tf's MobileNet (VGGFace2, IMDB-WIKI): teacher", "imdb_wiki", True),
        ("ourUTKFace", "utkface", True),
        ("UTK Faces", "utkface", True),
        ("Bilder aus 北京", "北京", True),
        ("utkface (12aaf34567ab)", "aaf", False),
        ("utkface (aaf34567ab12)", "aaf", False),
        ("data a fine set", "aaf", False),
        ("portable", "table", False),
        ("FairFace, 28,000 pictures", "北京", False),
        ("FairFace, 28,000 pictures", "--", False),
    ],
)
def test_who_names_a_data_set(manifest: Manifest, name: str, dataset: str, is_named: bool) -> None:
    columns = replace(manifest.columns, dataset=np.array([dataset] * len(manifest), dtype=object))
    seen = make_spec(training_data=({"name": name, "licence": "x"},))
    own, rows = replace(manifest, columns=columns), np.arange(len(manifest))
    reasons = list(find_leak_reasons(seen, own, rows, load_protocol("cross")))
    assert any("zero-shot" in reason for reason in reasons) is is_named


def test_folds_ask_what_the_start_has_seen_in_other_manifests(manifest: Manifest) -> None:
    divided, left_out = apart(manifest)
    rows, protocol = np.flatnonzero(left_out), load_protocol("adience5")

    def find(**entry: str) -> list[str]:
        spec = make_spec(recipe={"seen": [entry]})
        return list(find_leak_reasons(spec, divided, rows, protocol, held_out="1"))

    (name,) = set(divided.columns.dataset.tolist())
    (reason,) = find(data="0" * 64, name=f"mixed: fairface, {name} (000000000000)")
    assert f"began with weights that name {name}" in reason
    # The same manifest without the same fold is fair.
    assert not find(data=divided.fingerprint, name=f"{name} (000000000000)", held_out="1")
    assert find(data=divided.fingerprint, name=f"{name} (000000000000)", held_out="2")


@pytest.mark.parametrize("name", ["Made-Up", "the made up set (2019), training part"])
def test_zero_shot_means_unseen(manifest: Manifest, name: str) -> None:
    columns = replace(manifest.columns, dataset=np.array(["made_up"] * len(manifest), dtype=object))
    own = replace(manifest, columns=columns)
    seen = estimator(training_data=({"name": name, "licence": "x"},))
    with pytest.raises(LeakError, match="zero-shot"):
        evaluate(seen, own, "cross", OPTIONS)
    assert evaluate(seen, own, "plain", OPTIONS).leaks == ()
    assert evaluate(estimator(), own, "cross", OPTIONS).leaks == ()


# Folds


def folded(manifest: Manifest, folds: int = 5) -> Manifest:
    count = 2 * folds
    chosen = manifest.take(np.arange(count) % 8)
    columns = replace(
        chosen.columns,
        dataset=np.array(["adience"] * count, dtype=object),
        fold=np.repeat(np.arange(folds), 2).astype(np.int16),
        age_low=np.full(count, 25, np.float32),
        age_high=np.full(count, 32, np.float32),
    )
    return replace(chosen, columns=columns)


def test_five_models_for_five_folds(manifest: Manifest) -> None:
    models = [estimator(name=f"fold {number}", recipe={"held_out": str(number)}) for number in range(5)]
    found = evaluate(models, folded(manifest), "adience5", OPTIONS)
    assert [model.name for model in found.models] == [f"fold {number}" for number in range(5)]
    assert [fold.name for fold in found.folds] == list("01234")
    exact = [fold.figures["exact"].value for fold in found.folds]
    assert found.over_folds["exact"].mean == pytest.approx(np.mean(exact))
    assert found.over_folds["exact"].deviation == pytest.approx(np.std(exact, ddof=1))
    assert found.over_folds["gender"].folds == 5
    wrong = [models[1], models[0], *models[2:]]
    with pytest.raises(LeakError, match="left out '1'"):
        evaluate(wrong, folded(manifest), "adience5", OPTIONS)
    with pytest.raises(UsageError, match="takes one model, or one for each of its 5 folds"):
        evaluate(models[:3], folded(manifest), "adience5", OPTIONS)


def test_held_out_folds_of_the_same_manifest_are_fair(manifest: Manifest) -> None:
    data = folded(manifest)
    models = [estimator(recipe={"held_out": str(number), "data": data.fingerprint}) for number in range(5)]
    assert evaluate(models, data, "adience5", OPTIONS).leaks == ()
    with pytest.raises(LeakError, match="very pictures"):
        evaluate(models[0], data, "adience5", OPTIONS)


def test_a_benchmark_is_of_all_faces_whatever_part_was_drawn(manifest: Manifest) -> None:
    data = folded(manifest)
    split = np.where(np.arange(len(data)) % 5, "train", "test").astype(object)
    drawn = replace(data, columns=replace(data.columns, split=split))
    for name in ("adience5", "adience5-zero-shot"):
        found = evaluate(estimator(), drawn, name, OPTIONS)
        assert (found.data.part, found.data.pictures) == ("all", len(data))
        assert not any("only the part" in alarm for alarm in found.alarms)
    part = evaluate(estimator(), drawn, "adience5-zero-shot", replace(OPTIONS, split="test"))
    assert part.data.pictures == (split == "test").sum()
    assert any("only the part 'test' was judged" in alarm for alarm in part.alarms)
    assert evaluate(estimator(), drawn, replace(load_protocol("plain"), datasets=()), OPTIONS).data.part == "test"


def test_ten_folds_are_in_the_order_of_their_numbers(manifest: Manifest) -> None:
    names = [str(number) for number in range(1, 11)]
    data = folded(manifest, 10)
    data = replace(data, columns=replace(data.columns, fold=(data.columns.fold + 1).astype(np.int16)))
    ten = replace(load_protocol("adience5"), folds=Folds("fold", 10, all_needed=True))
    models = [estimator(name=f"fold {name}", recipe={"held_out": name}) for name in names]
    found = evaluate(models, data, ten, OPTIONS)
    assert [fold.name for fold in found.folds] == names
    assert found.leaks == ()


def test_what_cannot_be_told_of_another_manifest_is_said(manifest: Manifest) -> None:
    seen = estimator(
        training_data=({"name": "table: table (0123456789ab)", "licence": "x"},), recipe={"data": "0" * 64}
    )
    (alarm,) = [each for each in evaluate(seen, manifest, options=OPTIONS).alarms if "--train-manifest" in each]
    assert "stand-in has learned from table" in alarm
    checked = evaluate(seen, manifest, options=replace(OPTIONS, training=manifest, allow_leak=True))
    assert checked.leaks
    assert not any("--train-manifest" in each for each in checked.alarms)
    assert not any("--train-manifest" in each for each in evaluate(estimator(), manifest, options=OPTIONS).alarms)


def test_missing_folds(manifest: Manifest) -> None:
    with pytest.raises(UsageError, match="needs 5 folds, and the data set has 3"):
        evaluate(estimator(), folded(manifest, 3), "adience5", OPTIONS)
    found = evaluate(estimator(), folded(manifest, 3), "adience5-zero-shot", OPTIONS)
    assert any("3 of 5 folds" in alarm for alarm in found.alarms)
    with pytest.raises(UsageError, match="takes one model, not 2"):
        evaluate([estimator(), estimator()], manifest, "plain", OPTIONS)


def test_leave_one_person_out(manifest: Manifest) -> None:
    columns = replace(manifest.columns, dataset=np.array(["fgnet"] * len(manifest), dtype=object))
    found = evaluate(estimator(), replace(manifest, columns=columns), "fgnet-lopo", OPTIONS)
    assert [fold.name for fold in found.folds] == ["person0", "person1", "person2", "person3"]
    assert found.over_folds["mae"].folds == 4


# Pieces


def face(x: float, y: float, width: float, height: float, years: float = 30.0) -> Face:
    return Face(Box(x, y, width, height), 0.9, (), Age(years, 20, 40, 0.9, "x", 1.0), None)


def report(*faces: Face, width: int = 400, height: int = 200) -> Report:
    return Report("x", width, height, faces, ModelId("m", "0"))


def test_the_central_face_counts() -> None:
    off, middle = face(0, 0, 40, 40), face(180, 80, 40, 40)
    assert choose_face(report(off, middle)) is middle
    large = face(40, 20, 160, 160)
    assert choose_face(report(large, face(230, 80, 20, 20))) is large
    assert choose_face(report()) is None


def test_the_face_in_the_box_counts() -> None:
    off, middle = face(0, 0, 40, 40), face(180, 80, 40, 40)
    assert choose_face(report(off, middle), np.array([2, 3, 40, 38], np.float32)) is off
    assert choose_face(report(off, middle), np.array([300, 3, 40, 38], np.float32)) is None
    assert choose_face(report(off, middle), np.full(4, np.nan, np.float32)) is middle


def test_chance_that_a_band_is_inside() -> None:
    distribution = np.zeros(101)
    distribution[[20, 25, 29, 50]] = 0.25
    age = Age(31.0, 21.0, 40.0, 0.9, "x", 1.0, tuple(distribution))
    assert chance_inside(age, 20, 29) == pytest.approx(2 / 3, abs=1e-4)
    assert chance_inside(age, 21, 21) == 1.0
    assert chance_inside(age, 20, 20) == 0.0
    assert chance_inside(age, 70, 120) == 0.0
    assert np.isnan(chance_inside(age, np.nan, np.nan))


def test_which_labels_are_groups() -> None:
    from agelens.datasets.manifest import Columns

    ages = [(25, 32), (35, 35), (29, 29), (60, 100), (15, 20), (8, 23)]
    rows = [Row("adience", f"{n}.jpg", age_low=low, age_high=high) for n, (low, high) in enumerate(ages)]
    manifest = Manifest("adience", Path(), Columns.of(rows))
    assert label_bands(manifest, load_protocol("adience5")).tolist() == [4, -1, -1, 7, 3, -1]
    assert label_bands(manifest, load_protocol("plain")).tolist() == [-1, 4, 3, -1, -1, -1]


# Alarms and comparison


def frame(predictions: Predictions) -> Evaluation:
    model = ModelFacts("m", "0" * 64, "1", "MIT", 0.9, ())
    data = DataFacts("table", "x", "f" * 64, "all", len(predictions), 0, 0)
    return Evaluation((model,), data, EXACT, Origin("0", "2026-01-01", "x", "end to end", "cpu", 100), {})


def test_alarms() -> None:
    said = random_predictions(200, 1)
    assert summarise(said, frame(said)).alarms == ()
    constant = replace(said, years=np.full(200, 36.0), female_probability=np.full(200, 0.56))
    alarms = summarise(constant, frame(constant)).alarms
    assert any("about the same age (36.0" in alarm for alarm in alarms)
    assert any("100.0% of the faces get the same gender" in alarm for alarm in alarms)
    swapped = replace(said, female=1 - said.female)
    assert any("wrong way round" in alarm for alarm in summarise(swapped, frame(swapped)).alarms)
    useless = replace(said, years=100 - said.age_low)
    assert any("no better" in alarm for alarm in summarise(useless, frame(useless)).alarms)


def test_an_evaluation_equals_itself_in_every_figure(evaluation: Evaluation) -> None:
    found = compare(evaluation, evaluation, rounds=20)
    assert found.pictures == 8
    assert found.lost == 3
    assert {each.name for each in found.differences} >= {"mae", "gender", "coverage", "exact"}
    for each in found.differences:
        assert (each.difference, each.verdict) == (0.0, "")
        assert (each.low, each.high) in ((0.0, 0.0), (None, None))


def test_a_paired_difference_is_tighter_than_two_intervals() -> None:
    said = random_predictions(400, 2, people=150)
    better = replace(said, years=said.age_low + 0.9 * (said.years - said.age_low))
    first, second = summarise(said, frame(said)), summarise(better, frame(better))
    found = next(each for each in compare(first, second, rounds=300).differences if each.name == "mae")
    assert found.difference == pytest.approx(-0.1 * first.figures["mae"].value)
    assert found.low < found.difference < found.high < 0
    assert found.verdict == "second"
    alone = first.figures["mae"]
    assert found.high - found.low < 0.3 * (alone.high - alone.low)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_model_of_ages_alone_is_compared_by_what_both_tell(is_first: bool) -> None:
    said = random_predictions(400, 2)
    alone = replace(said, female_probability=np.full(400, np.nan))
    both = [summarise(each, frame(each)) for each in ((alone, said) if is_first else (said, alone))]
    names = {each.name for each in compare(*both, rounds=20).differences}
    assert "mae" in names
    assert not any(name.startswith("gender") for name in names)
    assert "gender_min_race" in {each.name for each in compare(both[is_first], both[is_first], rounds=20).differences}


def test_a_leak_is_stamped_on_what_is_compared_with_it(evaluation: Evaluation) -> None:
    leaky = replace(evaluation, leaks=("it has seen them",), alarms=("all is grey",))
    found = compare(evaluation, leaky, rounds=20)
    assert found.leaks == ("the second: it has seen them",)
    assert found.to_dict()["leaks"] == list(found.leaks)
    assert warnings(found)[0] == "**LEAK ALLOWED, figures too good:** the second: it has seen them."
    both = compare(leaky, leaky, rounds=20)
    assert (both.leaks, both.alarms) == (leaky.leaks, leaky.alarms)
    with pytest.raises(UsageError, match="one evaluation is end to end, the other crops"):
        compare(evaluation, replace(evaluation, origin=replace(evaluation.origin, mode="crops")))


def test_only_the_same_pictures_are_compared(evaluation: Evaluation, manifest: Manifest) -> None:
    other = evaluate(estimator(), manifest, options=replace(OPTIONS, limit=5))
    with pytest.raises(UsageError, match="different pictures"):
        compare(evaluation, other)
    with pytest.raises(UsageError, match="different protocols"):
        compare(evaluation, replace(evaluation, protocol=load_protocol("cross")))
    with pytest.raises(UsageError, match="lacks its predictions"):
        compare(evaluation, replace(evaluation, predictions=None))


def test_a_model_by_its_path(manifest: Manifest, tmp_path: Path) -> None:
    path = write_model(tmp_path / "mine.onnx")
    found = evaluate(str(path), manifest, options=replace(OPTIONS, limit=4))
    assert found.models[0].name == "stand-in"
    assert len(found.models[0].sha256) == 64
