"""`agelens batch` as users run it: processes that start, die, and are taken up again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra `batch`")

import pyarrow as pa
import pyarrow.parquet as pq

from agelens.batch.engine import Pool, _connect
from agelens.batch.inputs import InputOptions, Span
from agelens.batch.job import BatchJob, plan_run
from agelens.batch.partition import Outcome, PartitionWorker
from agelens.batch.places import Place, open_place
from agelens.batch.plan import read_partitions, write_inputs
from agelens.cli.batch import _do
from agelens.errors import ClusterError, OutputError, OutputInUseError, UnknownModelError
from command import COMMAND, EXAMPLE, environment, run, start

PATIENCE = 200.0


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Eighty names of one portrait, one of which is broken."""
    folder = tmp_path / "many"
    folder.mkdir()
    shutil.copy(EXAMPLE, folder / "0.jpg")
    for i in range(1, 80):
        os.link(folder / "0.jpg", folder / f"{i}.jpg")
    (folder / "7.jpg").unlink()
    (folder / "7.jpg").write_bytes(EXAMPLE.read_bytes()[:5000])
    return folder


@pytest.fixture
def done_run(photos: Path, stand_in: Path, tmp_path: Path) -> Path:
    """A finished run, done in this process."""
    job = BatchJob(str(photos), str(tmp_path / "out"), InputOptions(2), str(stand_in))
    with plan_run(job) as planned, closing(PartitionWorker(planned.work)) as worker:
        for partition in planned.todo:
            worker.run(partition)
        assert planned.complete()
    return tmp_path / "out"


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def parts(out: Path) -> set[str]:
    return {path.name for path in out.glob("part-*.parquet")}


def processes(words: str) -> set[int]:
    """Processes of the machine whose command line holds some words."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if words in line:
            found.add(int(folder.name))
    return found


def below(process: int, words: str) -> list[int]:
    """Processes that a process started, however indirectly, whose command line holds some words."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue

    def is_below(one: int) -> bool:
        while one in parents:
            if one == process:
                return True
            one = parents[one]
        return False

    return sorted(one for one in processes(words) if is_below(one))


def same_as_predict(folder: Path, out: Path, stand_in: Path) -> None:
    """Every picture once, and just what `agelens predict` says of it."""
    predicted = out.with_name("predicted.parquet")
    assert run("predict", folder, "--model", stand_in, "-o", predicted, "--quiet").returncode == 1
    expected, found = pq.read_table(predicted), pq.read_table(out)
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert found.equals(expected)


def test_a_worker_is_killed(many: Path, stand_in: Path, tmp_path: Path) -> None:
    """What it had before it is done again by the one that takes its place; the rest is not touched."""
    out = tmp_path / "out"
    process = start("batch", many, out, "--model", stand_in, "--partition-size", "2", "--actors", "2")
    wait_for(lambda: parts(out) or process.poll() is not None)
    actors = below(process.pid, "MapWorker")
    assert actors
    os.kill(actors[0], signal.SIGKILL)
    shown, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, told.decode()
    assert shown == b""
    assert b"80 pictures, 79 faces, 1 error (truncated_image 1)" in told
    assert told.count(b"\n") == 2, told.decode()  # the error and the summary: nothing of Ray's
    assert len(parts(out)) == 40
    assert (out / "_SUCCESS").exists()
    assert not list(out.glob(".*"))
    same_as_predict(many, out, stand_in)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_driver_is_killed(many: Path, stand_in: Path, tmp_path: Path) -> None:
    """Nothing lost, nothing twice, nothing done again, and no process stays behind."""
    out = tmp_path / "out"
    options = ("--model", stand_in, "--partition-size", "2", "--actors", "2")
    first = start("batch", many, out, *options)
    wait_for(lambda: parts(out) or first.poll() is not None)
    workers = below(first.pid, "MapWorker")
    first.kill()
    first.communicate()
    # A worker may still finish what it was at.
    wait_for(lambda: not processes("agelens-ray-") and not set(workers) & set(processes("MapWorker")))
    left = parts(out)
    assert 0 < len(left) < 40
    assert all(pq.read_table(out / name).num_rows == 2 for name in left)
    times = {name: (out / name).stat().st_mtime_ns for name in left}

    second = start("batch", many, out, *options, "--resume")
    _, told = second.communicate(timeout=PATIENCE)
    assert second.returncode == 1, told.decode()
    assert f"{len(left)} of 40 partitions are there already".encode() in told
    assert b"in all: 80 pictures, 79 faces, 1 error (truncated_image 1)" in told
    assert len(parts(out)) == 40
    assert {name: (out / name).stat().st_mtime_ns for name in left} == times
    same_as_predict(many, out, stand_in)
    assert not list(out.glob(".*"))


def test_a_finished_run(done_run: Path, photos: Path, stand_in: Path) -> None:
    options = ("batch", photos, done_run, "--model", stand_in, "--partition-size", 2)
    again = run(*map(str, options))
    assert (again.returncode, again.stdout) == (2, "")
    assert "--resume completes it" in again.stderr
    resumed = run(*map(str, options), "--resume")
    assert resumed.returncode == 1  # one picture can't be read
    assert "3 of 3 partitions are there already" in resumed.stderr
    assert "in all: 5 pictures, 3 faces, 1 error (empty_file 1)" in resumed.stderr
    for change, words in (
        (("--task", "age"), "task was 'both' and is now 'age'"),
        (("--model", "agelens-base"), "model was"),
        (("--max-pixels", "5000"), "max_pixels was 200000000 and is now 5000"),
    ):
        changed = run(*map(str, options), "--resume", *change)
        assert changed.returncode == 2
        assert words in changed.stderr
        assert "--overwrite" in changed.stderr


def test_what_is_new_is_added(done_run: Path, photos: Path, stand_in: Path) -> None:
    before = {name: (done_run / name).read_bytes() for name in parts(done_run)}
    shutil.copy(EXAMPLE, photos / "0 new.jpg")
    job = BatchJob(str(photos), str(done_run), InputOptions(2), str(stand_in), mode="resume")
    with plan_run(job) as planned, closing(PartitionWorker(planned.work)) as worker:
        assert not (done_run / "_SUCCESS").exists()
        assert [partition.number for partition in planned.todo] == [3]
        worker.run(planned.todo[0])
        assert planned.complete()
    assert {name: (done_run / name).read_bytes() for name in before} == before
    assert pq.read_table(done_run / "part-00003.parquet")["source"].to_pylist() == [str(photos / "0 new.jpg")]
    with plan_run(job) as planned:
        assert planned.todo == []


def test_overwrite_and_foreign_files(done_run: Path, photos: Path, stand_in: Path, tmp_path: Path) -> None:
    job = BatchJob(str(photos), str(done_run), InputOptions(100), str(stand_in), mode="overwrite")
    with plan_run(job) as planned:
        assert parts(done_run) == set()
        assert len(planned.todo) == 1
        with pytest.raises(OutputInUseError), plan_run(job):
            pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "part-00000.parquet").write_text("precious")
    for flag in ("--overwrite", "--resume", "--quiet"):
        refused = run("batch", photos, tmp_path / "mine", "--model", stand_in, flag)
        assert refused.returncode == 2
        assert "did not write" in refused.stderr
    assert (tmp_path / "mine" / "part-00000.parquet").read_text() == "precious"


def test_a_lock_that_was_removed_meanwhile_is_none(
    done_run: Path, photos: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run before ends just when the next one has opened the file: a third would make a new one and go on too."""

    def lock(_: int) -> bool:
        (done_run / "_agelens" / "lock").unlink()
        return True

    monkeypatch.setattr("agelens.batch.output._lock", lock)
    job = BatchJob(str(photos), str(done_run), InputOptions(2), str(stand_in), mode="resume")
    with pytest.raises(OutputInUseError), plan_run(job):
        pass


def test_success_never_stands_beside_less_than_all(
    done_run: Path, photos: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    success, seen = done_run / "_SUCCESS", []
    job = BatchJob(str(photos), str(done_run), InputOptions(2), str(stand_in), mode="resume")
    (done_run / "part-00001.parquet").unlink()
    with plan_run(job) as planned, closing(PartitionWorker(planned.work)) as worker:
        assert not success.exists()
        worker.run(planned.todo[0])
        assert planned.complete()
    shutil.copy(EXAMPLE, photos / "0 new.jpg")
    with (
        plan_run(job, seen=lambda _: seen.append(success.exists())) as planned,
        closing(PartitionWorker(planned.work)) as worker,
    ):
        worker.run(planned.todo[0])
        assert planned.complete()
    assert seen == [False]  # while the new pictures are written down
    remove = Place.remove

    def look(place: Place) -> None:
        remove(place)
        assert not success.exists() or len(parts(done_run)) == 4

    monkeypatch.setattr(Place, "remove", look)
    with plan_run(replace(job, mode="overwrite")):
        assert parts(done_run) == set()


def test_a_worker_that_outlives_its_run_writes_nothing_into_the_next(
    photos: Path, stand_in: Path, tmp_path: Path
) -> None:
    job = BatchJob(str(photos), str(tmp_path / "out"), InputOptions(2), str(stand_in))
    with plan_run(job) as planned:
        late = PartitionWorker(planned.work)
    with plan_run(replace(job, mode="resume")) as resumed:
        assert late.run(resumed.todo[0]).failure is None  # it does the same, so that nobody is harmed
    with plan_run(replace(job, mode="overwrite")) as anew:
        assert late.run(anew.todo[0]).failure == (
            "OutputInUseError",
            f"another run has begun in {tmp_path / 'out'} since; this one writes no more",
        )
        assert parts(tmp_path / "out") == set()
        with closing(PartitionWorker(anew.work)) as worker:
            assert worker.run(anew.todo[0]).failure is None
    late.close()


def test_what_a_late_worker_writes_while_the_output_is_emptied_does_not_stay(
    done_run: Path, photos: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = BatchJob(str(photos), str(done_run), InputOptions(2), str(stand_in), mode="resume")
    with plan_run(job) as planned:
        late, partition = PartitionWorker(planned.work), planned.partitions[0]
    written, remove = list[bool](), Place.remove

    def remove_and_write(place: Place) -> None:
        remove(place)
        if place.path.endswith("part-00000.parquet") and not written:
            written.append(late.run(partition).failure is None)

    monkeypatch.setattr(Place, "remove", remove_and_write)
    with closing(late), plan_run(replace(job, mode="overwrite")) as anew:
        assert written == [True]
        assert parts(done_run) == set()
        assert anew.todo == anew.partitions


def test_a_model_at_which_workers_die_ends_the_run(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    class Death(BaseException):
        """Ends a worker as nothing can that it could catch."""

    job = BatchJob(str(photos), str(tmp_path / "out"), InputOptions(2), str(stand_in))

    def die(*_: object, **__: object) -> None:
        raise Death

    def refuse(*_: object, **__: object) -> None:
        raise UnknownModelError("no such model")

    with plan_run(job) as planned:
        first, tries = planned.todo[0], tmp_path / "out" / "_agelens" / "tries"
        for _ in range(2):
            with pytest.MonkeyPatch.context() as patch, closing(PartitionWorker(planned.work, "a1")) as worker:
                patch.setattr("agelens.batch.partition.Analyzer", die)
                with pytest.raises(Death):
                    worker.run(first)
        with closing(PartitionWorker(planned.work, "a1")) as worker:
            failure = worker.run(first).failure
        assert failure is not None
        assert failure[0] == "UnfitModelError"
        assert "fewer --actors" in failure[1]
        for _ in range(4):  # one that comes back with an error is not dead
            with pytest.MonkeyPatch.context() as patch, closing(PartitionWorker(planned.work, "c3")) as worker:
                patch.setattr("agelens.batch.partition.Analyzer", refuse)
                assert worker.run(first).failure == ("UnknownModelError", "no such model")
        with closing(PartitionWorker(planned.work, "b2")) as worker:  # another one is not told by its fate
            assert worker.run(first).failure is None
        assert {path.name for path in tries.iterdir()} == {"opening-a1.json"}


def test_a_plan_that_cannot_be_read(done_run: Path, photos: Path, stand_in: Path) -> None:
    job = BatchJob(str(photos), str(done_run), InputOptions(2), str(stand_in), mode="resume")
    for text in ("", "null", "[]", '"x"', '{"schema": "agelens.batch/0"}'):
        (done_run / "_agelens" / "plan.json").write_text(text)
        with pytest.raises(OutputError, match="--overwrite"), plan_run(job):
            pass
    with plan_run(replace(job, mode="overwrite")) as planned:
        assert len(planned.todo) == 3


def test_nothing_is_left_of_what_was_killed(done_run: Path, photos: Path, stand_in: Path) -> None:
    state = done_run / "_agelens"
    (state / "tries").mkdir(exist_ok=True)
    left = [done_run / "._SUCCESS.0a1b.part", done_run / ".part-00001.parquet.0a1b.part", state / "tries" / "1.json"]
    left += [state / ".plan.json.0a1b.part", state / ".inputs-00003.parquet.0a1b.part"]
    for path in left:
        path.write_text("{}")
    with plan_run(BatchJob(str(photos), str(done_run), InputOptions(2), str(stand_in), mode="resume")) as planned:
        assert planned.complete()
    assert not any(path.exists() for path in left)


def test_numbers_may_have_six_digits(tmp_path: Path) -> None:
    """As text, 100000 comes before 99999: the next numbers would be those of partitions that are there."""
    output = open_place(str(tmp_path))
    for first in (99_998, 100_000):
        write_inputs(output, [[Span("file", f"{first + i}", "x")] for i in range(2)], first, lambda _: None)
    assert [partition.number for partition in read_partitions(output)] == [99_998, 99_999, 100_000, 100_001]


def test_half_a_file_is_done_again_where_that_can_be(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    job = BatchJob(str(photos), f"fsspec+file://{tmp_path}/out", InputOptions(2), str(stand_in))
    with plan_run(job) as planned, closing(PartitionWorker(planned.work)) as worker:
        for partition in planned.todo:
            worker.run(partition)
    whole = (tmp_path / "out" / "part-00001.parquet").read_bytes()
    (tmp_path / "out" / "part-00001.parquet").write_bytes(whole[:-9])
    (tmp_path / "out" / "part-00002.parquet").write_bytes(b"")
    with plan_run(replace(job, mode="resume")) as planned:
        assert [partition.number for partition in planned.todo] == [1, 2]


def test_workers_may_run_in_another_folder(
    photos: Path, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(stand_in, "m.onnx")
    pq.write_table(pa.table({"path": ["a.jpg"]}), "list.parquet")
    job = BatchJob("list.parquet", "out", InputOptions(2, root="photos"), "m.onnx")
    with plan_run(job) as planned:
        monkeypatch.chdir("/")
        with closing(PartitionWorker(planned.work)) as worker:
            assert worker.run(planned.todo[0]) == Outcome(0, 1, 1)
    assert parts(tmp_path / "out") == {"part-00000.parquet"}


def test_a_cluster_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def refuse(**_: object) -> None:
        raise ray.exceptions.RaySystemError("no token")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ClusterError, match=r"the cluster at there can't be used: .*no token"):
        _connect(Pool(address="there"), None)


def test_a_start_that_takes_too_long_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def time_out(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because ...")  # noqa: TRY002

    monkeypatch.setattr(ray, "init", time_out)
    with pytest.raises(ClusterError) as caught:
        _connect(Pool(), None)
    assert caught.value.message == (
        "Ray on this machine can't be used: The current node timed out during startup; see that it can start, then run"
        " it again (with --resume)"
    )


def test_what_vanishes_is_told(done_run: Path, photos: Path, stand_in: Path) -> None:
    job = BatchJob(str(photos), str(done_run), InputOptions(2), str(stand_in), mode="resume")
    with plan_run(job) as planned:
        (done_run / "part-00001.parquet").unlink()
        with pytest.raises(OutputError, match="--resume"):
            _do(planned, Pool(), quiet=True)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("empty", "out"), 2, "nothing to read"),
        (("", "out"), 2, "IN is empty"),
        (("empty", "out", "--resume", "--overwrite"), 2, "exclude each other"),
        (("empty", "out", "--partition-size", "0"), 2, "is not a whole number"),
        (("empty", "out", "--model", "nobody"), 3, "there is no model"),
        (("empty", "out", "--groups", "x"), 2, "groups"),
        (("empty", "s3x://b/out"), 2, "pyarrow knows"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    (tmp_path / "empty").mkdir()
    done = run("batch", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_needs_no_ray() -> None:
    code = "import sys; sys.modules['ray'] = None; sys.modules['pyarrow'] = None; from agelens.cli import main; main()"
    shown = {}
    for arguments in (["--help"], ["a", "b"]):
        command = [sys.executable, "-c", f"import sys; sys.argv = ['agelens', 'batch', *{arguments!r}]; {code}"]
        shown[arguments[0]] = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert shown["--help"].returncode == 0
    assert "Examples:" in shown["--help"].stdout
    assert shown["a"].returncode == 2
    assert "extra 'batch'" in shown["a"].stderr


def test_what_died_careless_is_done_carefully(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    """A process that took the place of a dead one gives the same rows, one picture after the other."""
    tables = []
    for careful in (False, True):
        out = tmp_path / f"out{careful}"
        with plan_run(BatchJob(str(photos), str(out), InputOptions(9), str(stand_in))) as planned:
            with closing(PartitionWorker(planned.work)) as worker:
                outcome = worker.run(planned.todo[0], careful=careful)
            assert (outcome.pictures, outcome.faces, outcome.errors) == (5, 3, {"empty_file": 1})
        tables.append(pq.read_table(out))
        assert list((out / "_agelens").glob("tries/*")) == []
    assert tables[0].equals(tables[1])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_picture_that_kills_becomes_an_error(many: Path, stand_in: Path, tmp_path: Path) -> None:
    """Whatever kills a process in the middle of a picture: here a name at which Python itself is told to."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "def look(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith('13.jpg'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "if 'default_worker' in ' '.join(sys.orig_argv):\n"
        "    sys.addaudithook(look)\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), environment()["PYTHONPATH"]])
    out = tmp_path / "out"
    command = [*COMMAND, "batch", many, out, "--model", stand_in, "--partition-size", "5"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment(PYTHONPATH=path), timeout=500
    )
    assert done.returncode == 1, done.stderr
    assert "crashed 1" in done.stderr
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == 80
    assert [Path(row["source"]).name for row in rows if row["error_code"] == "crashed"] == ["13.jpg"]
    assert sum(row["face"] == 0 for row in rows) == 78


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(many: Path, stand_in: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    process = start("batch", many, out, "--model", stand_in, "--partition-size", "2", "--actors", "1")
    wait_for(lambda: parts(out) or process.poll() is not None)
    process.send_signal(number)
    shown, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, told.decode()
    assert shown == b""
    assert b"--resume goes on" in told
    assert all(pq.read_table(out / name).num_rows == 2 for name in parts(out))
    wait_for(lambda: not processes("agelens-ray-"))


@pytest.mark.slow
def test_strict_stops_and_ray_stays_at_home(many: Path, stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("batch", many, out, "--model", stand_in, "--partition-size", "4", "--strict", "--actors", "1")
    wait_for(lambda: processes("agelens-ray-") or process.poll() is not None)
    heard = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True).stdout if shutil.which("ss") else ""
    for line in heard.splitlines():
        if "raylet" in line or "gcs_server" in line:
            assert "127.0.0.1" in line.split()[3]
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert b"7.jpg" in told
    assert b"ends early" in told
    assert len(parts(out)) < 20
    assert not (out / "_SUCCESS").exists()
