"""The map function by itself: Arrow in, Arrow out, whatever engine calls it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `batch`")

import pyarrow as pa
import pyarrow.parquet as pq

import agelens
from agelens.batch import ArrowPredictor
from agelens.errors import MissingPackageError, UnknownModelError, UsageError
from agelens.serialise import COLUMNS
from command import EXAMPLE, environment, run


@pytest.fixture
def predictor(stand_in: Path) -> ArrowPredictor:
    return ArrowPredictor(str(stand_in))


def test_the_same_as_the_command(photos: Path, predictor: ArrowPredictor, stand_in: Path, tmp_path: Path) -> None:
    done = run("predict", photos, "--model", stand_in, "-o", tmp_path / "p.parquet", "--quiet")
    assert done.returncode == 1
    expected = pq.read_table(tmp_path / "p.parquet")
    paths = expected["source"].to_pylist()
    found = predictor(pa.table({"path": paths}))
    assert found.equals(expected)
    assert found.schema.names == list(COLUMNS)
    content = [Path(path).read_bytes() for path in paths]
    assert predictor(pa.table({"image": content, "path": paths})).equals(expected)


def test_batches_stream_and_rows_without_names_are_numbered(predictor: ArrowPredictor) -> None:
    batch = pa.record_batch({"bytes": [EXAMPLE.read_bytes(), b""]})
    rows = [row for part in predictor.stream(iter([batch, batch])) for row in part.to_pylist()]
    assert [row["source"] for row in rows] == ["row 0", "row 1", "row 2", "row 3"]
    assert [row["error_code"] for row in rows] == [None, "empty_file"] * 2
    assert list(predictor.stream([])) == []
    assert predictor(pa.table({"bytes": pa.array([], pa.binary())})).num_rows == 0


def test_it_is_lazy(predictor: ArrowPredictor) -> None:
    """A stream far longer than memory: what is ahead of the reader is bounded."""
    taken = 0

    def batches() -> object:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield pa.record_batch({"bytes": [b"no picture"] * 64})

    first = next(iter(predictor.stream(batches())))
    assert first.num_rows >= 1024
    assert taken <= 20


def test_it_travels_without_its_models(predictor: ArrowPredictor, stand_in: Path) -> None:
    before = pickle.dumps(predictor)
    table = pa.table({"path": [str(EXAMPLE)]})
    result = predictor(table)
    assert len(pickle.dumps(predictor)) == len(before) < 1000
    again = pickle.loads(before)
    assert again(table).equals(result)
    assert again.analyzer is predictor.analyzer


def test_settings_hold(stand_in: Path) -> None:
    table = pa.table({"path": [EXAMPLE.name], "id": [7]})
    predictor = ArrowPredictor(str(stand_in), name_column="id", root=str(EXAMPLE.parent), task="age", groups="decades")
    (row,) = predictor(table).to_pylist()
    (face,) = agelens.predict(EXAMPLE, model=str(stand_in), task="age", groups="decades")
    assert row["source"] == "7"
    assert row["age_group"] == face.age.group
    assert row["gender_label"] is None


def test_mistakes_are_typed() -> None:
    with pytest.raises(UsageError, match="taks"):
        ArrowPredictor(taks="age")
    with pytest.raises(UsageError, match="column"):
        ArrowPredictor()(pa.table({"id": [1]}))
    with pytest.raises(UnknownModelError):
        ArrowPredictor("nobody")(pa.table({"path": ["x"]}))


def test_without_pyarrow_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from agelens.errors import MissingPackageError\n"
        "try:\n    import agelens.batch\n"
        "except MissingPackageError as error:\n    print(error.message)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert "extra 'batch'" in done.stdout
    assert MissingPackageError.exit_status == 2


@pytest.mark.slow
def test_in_spark(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    """In a process of its own: Spark starts a Java machine, and warns of things that are not ours."""
    pytest.importorskip("pyspark", reason="needs pyspark and Java")
    (photos / "broken.jpg").write_bytes(EXAMPLE.read_bytes()[:5000])
    code = f"""
import sys
from pyspark.sql import SparkSession
from agelens.batch import ArrowPredictor

spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.pyspark.python", sys.executable)
    .getOrCreate()
)
frame = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load({str(photos)!r})
frame = frame.filter("path not like '%.txt'").select("path", "content")
predictor = ArrowPredictor({str(stand_in)!r})
frame.mapInArrow(predictor.stream, ArrowPredictor.ddl()).write.parquet({str(tmp_path / "spark")!r})
spark.stop()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    run("predict", photos, "--model", stand_in, "-o", tmp_path / "p.parquet", "--quiet")
    expected, found = (pq.read_table(tmp_path / name) for name in ("p.parquet", "spark"))
    assert found.schema.names == expected.schema.names
    rows = [{**row, "source": ""} for row in expected.to_pylist() if row["error_code"] != "empty_file"]
    assert len(rows) == 5  # Spark itself passes over files without bytes
    assert sorted(({**row, "source": ""} for row in found.to_pylist()), key=repr) == sorted(rows, key=repr)
