"""The long computations on a machine without a network: stopped, crashed, resumed, brought home."""

import argparse
import importlib.util
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mflib import paths, results
from mflib.experiment.store import Store
from mflib.report import provenance

HERE = Path(__file__).resolve().parents[2]
FIG2 = "mft-fig2"

# What the wheel brings: every Python process of the run begins with it. Before the process that
# computes records its second shard, it stops the one that decides; or it dies before its fourth.
HOOK = """\
import os, signal, sys, time

fault, seen = os.environ.get("MFLIB_TEST_FAULT"), []

def watch(event, arguments):
    if event == "os.rename" and "shards" in (to := str(arguments[1])) and to.endswith(".json"):
        seen.append(to)
        if fault == "stop" and len(seen) == 2:
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(2)  # until this process is told to stop as well
        if fault == "die" and len(seen) == 4:
            os.kill(os.getpid(), signal.SIGKILL)

if "_compute" in sys.orig_argv:
    sys.addaudithook(watch)
"""


CHAPTER = """\
# # A chapter

# %% tags=["parameters"]
seed: int = 0  # of nothing [0, 9]

# %%
from mflib import report

report.begin("tiny", seed=seed, device="cpu", scale="quick")
report.claim("mft-tiny", statement="One is one.", paper=1.0, ours=1.0, tolerance=0.1)
"""


@pytest.fixture(scope="module")
def offline():
    spec = importlib.util.spec_from_file_location("offline", HERE / "tools" / "offline.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["offline"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["offline"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a copy of the code, as one carries it to another machine."""
    root = tmp_path_factory.mktemp("offline") / "project"
    shutil.copytree(HERE / "mflib", root / "mflib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("notebooks/resources.yaml", "tools/offline.py", "requirements.lock"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(HERE / name, root / name)
    (root / "notebooks" / "tiny.py").write_text(CHAPTER)
    (root / "notebooks" / "profiles").mkdir()
    (root / "notebooks" / "profiles" / "quick.yaml").write_text("tiny: {}\n")
    return root


@pytest.fixture
def call(project, tmp_path, monkeypatch):
    """Run the program where no network is; return what it said and its exit code."""
    nowhere = "http://127.0.0.1:9"
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MFLIB_", "PIP_"))}
    plain |= dict.fromkeys(("http_proxy", "https_proxy", "PIP_INDEX_URL"), nowhere)
    plain |= {"PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    plain |= {"MFLIB_CACHE": str(tmp_path / "home")}

    def run(*words, **more):
        return subprocess.run(
            [sys.executable, project / "tools" / "offline.py", *map(str, words)],
            env={**plain, **more}, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    return run


def wheel(folder, name, version, files=(), asks=()):
    """Write a wheel of pure Python."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in asks)
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {**dict(files), f"{about}/METADATA": metadata, f"{about}/WHEEL": tag}
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for place, text in files.items():
            archive.writestr(place, text)
        archive.writestr(f"{about}/RECORD", "".join(f"{place},,\n" for place in files))


def members(archive):
    with tarfile.open(archive) as found:
        return {Path(one).name for one in found.getnames()}


def records(*archives):
    return {Path(n).stem for file in archives for n in members(file) if n.endswith(".json")}


def report(out):
    return json.loads((out / "report.json").read_text())


def damaged(archive: Path, copy: Path) -> str:
    """Copy an archive with one byte of one table changed; return that shard's name."""
    with tarfile.open(archive) as old, tarfile.open(copy, "w") as new:
        first = next(one.name for one in old.getmembers() if one.name.endswith(".parquet"))
        for member in old.getmembers():
            content = bytearray(old.extractfile(member).read())
            if member.name == first:
                content[len(content) // 2] ^= 1
            new.addfile(member, io.BytesIO(content))
        new.addfile(tarfile.TarInfo("../../outside.json"))
    return Path(first).name.partition(".")[0]


def test_stopped_crashed_resumed_and_brought_home_the_table_has_the_same_bits(
    project, call, tmp_path, monkeypatch
):
    carried = tmp_path / "wheels"
    wheel(carried, "begins_first", "1.0", {"sitecustomize.py": HOOK})
    common = ("work", FIG2, "--rehearse", "--device", "cpu", "--minutes", 5, "--wheels", carried)
    outs = [tmp_path / f"out{k}" for k in range(4)]

    def work(k, place, *more, **environment):
        at = tmp_path / place
        return call(*common, "--out", outs[k], "--work", at, *more, **environment)

    # Stopped by a signal in the middle of the first group: its two shards have been kept.
    said = work(0, "a", MFLIB_TEST_FAULT="stop")
    assert said.returncode == 130, said.stderr
    assert "mnist-seed0-1of2: stopped after 2 of 2 shards" in said.stdout
    archive = outs[0] / "shards-1.tar"
    assert len(records(archive)) == 2
    known = report(outs[0])
    assert known["state"] == "stopped by SIGTERM"
    assert [name.split()[1] for name in known["pending"]] == [
        "mnist-seed0-1of2", "cifar10-seed0-1of1", "mnist-seed0-2of2",
    ]  # fmt: skip

    # Elsewhere, from these archives, one of them damaged. The process that computes takes two
    # shards and dies at the second of three of a group; the next group is computed by another.
    bad = tmp_path / "bad.tar"
    worse = damaged(archive, bad)
    said = work(1, "b", "--shards", bad, archive, MFLIB_TEST_FAULT="die")
    assert said.returncode == 1, said.stderr
    assert f"refused: bad.tar: shard {worse} is damaged" in said.stdout
    assert "refused: bad.tar: ../../outside.json is no part of a shard" in said.stdout
    assert "2 shards taken from archives" in said.stdout
    assert "cifar10-seed0-1of1: failed: its process died (-9)" in said.stdout
    assert "mnist-seed0-2of2: 1 shards in" in said.stdout
    known = report(outs[1])
    assert [each["group"] for each in known["failed"]] == ["cifar10-seed0-1of1"]
    assert [each["group"] for each in known["groups"]] == ["mnist-seed0-2of2"]
    fresh = records(outs[1] / "shards-1.tar")
    assert len(fresh) == 2  # one of the group that died, one of the next, none that was brought
    assert not fresh & records(archive)

    # In the background in the same folder: only the group that died is left. Then a chapter.
    said = work(2, "b", "--detach", "--chapters", "tiny")
    assert (said.returncode, "works in" in said.stdout) == (0, True)
    until = time.monotonic() + 120

    def going():
        return call("state", "--work", tmp_path / "b").returncode == 3

    while not (outs[2] / "shards-1.tar").exists() or going():
        assert time.monotonic() < until
        time.sleep(0.2)
    assert [each["group"] for each in report(outs[2])["groups"]][1:] == ["cifar10-seed0-1of1"]
    (chapter,) = report(outs[2])["chapters"]
    assert (chapter["state"], chapter["devices"]) == ("finished", [provenance.device_name("cpu")])
    assert members(outs[2] / "chapters.tar") == {"tiny.ipynb"}
    said = call("pack", "--work", tmp_path / "b", "--out", outs[3])
    assert "4 shards packed" in said.stdout
    assert records(outs[3] / "shards-1.tar") == records(outs[2] / "shards-1.tar") > fresh

    # Home again: what is damaged is refused, what is sound is added, the table is recorded.
    torn = tmp_path / "torn.tar"
    torn.write_bytes(archive.read_bytes()[:3000])
    said = call("take", bad, torn, archive, outs[2] / "shards-1.tar", "--rehearse", "--record")
    assert said.returncode == 1
    assert f"refused: bad.tar: shard {worse} is damaged" in said.stderr
    assert "refused: torn.tar is torn" in said.stderr
    assert "6 shards are new" in said.stdout
    assert "mft-fig2: complete and not yet recorded: mnist-seed0, cifar10-seed0; 0" in said.stdout

    monkeypatch.setenv("MFLIB_ROOT", str(project))
    results.computation.cache_clear()
    brought = pd.read_parquet(results.table_file(FIG2, rehearse=True))
    shutil.rmtree(project / "_build")
    store = Store(tmp_path / "uninterrupted")
    for group in results.groups(FIG2, rehearse=True):
        results.compute_group(
            FIG2, group.name, store=store, rehearse=True, device="cpu", progress=False
        )
    whole = pd.read_parquet(results.collect(FIG2, store=store, rehearse=True))
    results.computation.cache_clear()
    pd.testing.assert_frame_equal(brought, whole, check_exact=True)


def test_what_cannot_be_is_told_in_one_sentence(call, tmp_path):
    out = ("--out", tmp_path / "out", "--work", tmp_path / "work")
    none = tmp_path / "none"
    for words, says in (
        (("--minutes", 0.5), "--minutes 0.5 must be in [1, 100000]"),
        (("--minutes", 5, "--wheels", none), f"--wheels {none} is no folder"),
        (("--minutes", 5, "--shards", none), f"there is no archive {none}"),
        (("--minutes", 5, "--chapters", "fc"), "no notebook 'fc'"),
        (("--minutes", 5), "there is no GPU here, and on a CPU each group would take"),
    ):
        said = call("work", *out, *words)
        assert said.returncode == 2
        assert said.stderr.startswith(f"offline: {says}")
        assert said.stderr.count("\n") == 1
    assert not list((tmp_path / "work").rglob("*.parquet"))


def test_groups_that_do_not_fit_are_not_begun_and_failing_ones_set_aside(offline, tmp_path):
    guess, took = {"slow": 50.0, "bad": 0.0, "ok": 5.0}, {"slow": 100.0, "ok": 10.0}
    jobs = [
        {"computation": name, "group": f"{name}{k}", "guess": seconds}
        for k in range(5)
        for name, seconds in guess.items()
    ]
    words = ["work", "--minutes", "10", "--out", str(tmp_path), "--work", str(tmp_path)]
    run = offline.Run(offline.parser().parse_args([*words, "--slack", "1"]), tmp_path)
    run.kind, now, asked = "cuda", [0.0], []
    run.left = lambda: 245.0 - now[0]

    class Worker:
        def ask(self, what, **job):
            if what == "list":
                return {"jobs": list(jobs), "absent": {"far far0": "cifar10 was not brought"}}
            asked.append(job["group"])
            if job["computation"] == "bad":
                return {"failed": "AcceleratorError: CUDA error"}
            now[0] += took[job["computation"]]
            return {"shards": 2, "seconds": took[job["computation"]], "peak_gb": 1.0}

        def kill(self):
            pass

    run.worker = Worker()
    run.compute()
    assert asked == [
        "slow0", "bad0", "ok0", "slow1", "bad1", "ok1", "bad2", "ok2", "ok3",
    ]  # fmt: skip
    assert [each["group"] for each in run.report["failed"]] == [f"bad{k}" for k in range(5)]
    assert run.report["pending"] == ["slow slow2", "slow slow3", "slow slow4", "ok ok4"]
    assert run.throughput() == {"slow": 1.2, "ok": 12.0}


def a_state(steps, parts=0, numbers=100):
    """Return the arrays of a shard in training that is so far."""
    header = json.dumps({"steps": steps, "done": [0] * parts}).encode()
    return {"header": np.frombuffer(header, np.uint8), "x": np.arange(float(numbers))}


def test_of_two_states_of_a_shard_the_one_that_is_further_stays(offline, tmp_path):
    archives = []
    for k, state in enumerate([a_state(40), a_state(70), a_state(5, parts=1), a_state(90)]):
        work = tmp_path / f"work{k}"
        (work / "cache" / "shards").mkdir(parents=True)
        Store(work / "cache" / "shards").write_partial({"k": 0}, state)
        assert offline.pack(work, tmp_path / f"out{k}", offline.PIECE) == (0, 0)
        archives += (tmp_path / f"out{k}").glob("*.tar")
    for order in itertools.permutations(range(4)):
        home = Store(tmp_path / "home" / "".join(map(str, order)))
        for n, k in enumerate(order, start=1):
            assert offline.unpack([archives[k]], home) == ([], [], [])
            kept = json.loads(home.get_partial({"k": 0})["header"].tobytes())
            best = max(order[:n], key=[0, 1, 3, 2].__getitem__)
            assert (kept["steps"], len(kept["done"])) == [(40, 0), (70, 0), (5, 1), (90, 0)][best]
    home.partial_path({"k": 0}).write_bytes(b"torn")
    assert offline.unpack(archives[:1], home) == ([], [], [])
    assert home.get_partial({"k": 0})["x"].shape == (100,)


def test_archives_stay_under_the_limit_and_leave_nothing_out_for_good(offline, tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    store = Store(work / "cache" / "shards")
    for k in range(8):
        store.write({"k": k}, pd.DataFrame({"x": np.random.default_rng(k).random(1500)}))
    names = {store.name({"k": k}) for k in range(8)}
    offline.write_json(work / "came.json", [came := store.name({"k": 0})])
    store.write_partial({"k": "begun"}, a_state(3))
    limit = 60 * 1024
    assert offline.pack(work, out, limit, pieces=2) == (4, 3)
    archives = sorted(out.glob("*.tar"))
    first = records(*archives)
    assert [file.name for file in archives] == ["shards-1.tar", "shards-2.tar"]
    assert all(file.stat().st_size <= limit for file in archives)
    assert offline.pack(work, out, limit, pieces=2) == (4, 3)
    second = records(*out.glob("*.tar"))
    assert len(second - first) == 3  # those first that were left out
    assert first | second == names - {came}
    # What was only begun comes last, once there is room; it is taken in where it is not done yet.
    assert offline.pack(work, out, limit, pieces=4) == (7, 0)
    home = Store(tmp_path / "home")
    new, known, bad = offline.unpack(sorted(out.glob("*.tar")), home)
    assert (len(new), known, bad) == (7, [], [])
    np.testing.assert_array_equal(home.get_partial({"k": "begun"})["x"], np.arange(100.0))


def test_data_sets_come_out_as_they_went_in(offline, tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    smooth = np.cumsum(draw.integers(-9, 10, (40, 3, 32, 32)), axis=3).astype(np.uint8)
    pixels = np.concatenate([smooth, draw.integers(0, 256, (2, 3, 32, 32), np.uint8)])
    picture = offline.painted(pixels.tobytes(), pixels.shape)
    assert offline.photographs(picture, pixels.shape) == pixels.tobytes()
    batch = b"head T" + b"T" + pixels.size.to_bytes(4, "little") + pixels.tobytes() + b" labels"
    place = "cifar-10-batches-py/test_batch"
    sets = {"cifar10": {place: pixels.shape}, "mnist": {"MNIST/raw/t10k-labels-idx1-ubyte": None}}
    monkeypatch.setattr(offline, "SETS", sets)
    monkeypatch.setattr(offline, "MIB", 2**10)
    source, carry, work = tmp_path / "source", tmp_path / "carry", tmp_path / "work"
    for files in sets.values():
        for name in files:
            (source / name).parent.mkdir(parents=True)
            (source / name).write_bytes(batch if name == place else b"1234")
    words = ["data", str(carry), "--from", str(source), "--piece", "30", "--sets", *sets]
    assert offline.main(words) == 0
    pieces = sorted(carry.glob("cifar*"))
    assert len(pieces) == 3
    assert all(file.stat().st_size <= 30 * 2**10 for file in pieces)
    later = tmp_path / "later"
    later.mkdir()
    pieces[1].rename(later / pieces[1].name)
    assert offline.unfold(carry, work) == ["MNIST/raw/t10k-labels-idx1-ubyte"]
    content = bytearray((later / pieces[1].name).read_bytes())
    content[500] ^= 1
    (later / pieces[1].name).write_bytes(content)
    with pytest.raises(offline.Refused, match=r"test_batch\.fold\.2of3.* is damaged"):
        offline.unfold(later, work)
    assert not (work / "data" / place).exists()
    content[500] ^= 1
    (later / pieces[1].name).write_bytes(content)
    shutil.copy(later / pieces[1].name, carry)
    assert offline.unfold(carry, work) == [place]
    assert (work / "data" / place).read_bytes() == batch
    assert offline.unfold(carry, work) == []


def test_wheels_are_those_that_the_other_machine_lacks_with_what_they_need(offline, call, tmp_path):
    index, target, have = tmp_path / "index", tmp_path / "target", tmp_path / "have.txt"
    versions = offline.locked("3.12")
    wheel(
        index,
        "papermill",
        versions["papermill"],
        asks=['aiohttp==1; python_version == "3.12"', "tqdm", 'black; extra == "dev"'],
    )
    wheel(index, "aiohttp", versions["aiohttp"], asks=["click"])
    have.write_text("Package Version\n------- -------\ntqdm    1.0\nClick==8\n")
    (target / "papermill-0.1-py3-none-any.whl").parent.mkdir()
    (target / "papermill-0.1-py3-none-any.whl").write_bytes(b"older")
    said = call("wheels", target, "papermill", "--have", have, PIP_FIND_LINKS=str(index))
    assert said.returncode == 0, said.stderr
    assert {file.name.split("-")[0] for file in target.iterdir()} == {"papermill", "aiohttp"}
    assert "2 wheels in" in said.stdout
    said = call("wheels", target, "black")
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert "offline: black is not in requirements.lock" in said.stderr


def test_what_would_not_be_known_at_home_is_not_computed(offline, tmp_path, monkeypatch):
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(offline, "_without_network", lambda: None)
    monkeypatch.setattr(paths, "build", lambda: tmp_path / "build")
    file = tmp_path / "keys.json"
    words = ["mft-fig2", "--rehearse", "--device", "cpu"]
    assert offline.main(["keys", str(file), *words]) == 0
    home = json.loads(file.read_text())
    args = argparse.Namespace(rehearse=True, device="cpu")
    question = {"ids": ["mft-fig2"], "kind": "cpu"}
    groups = [
        f"mft-fig2 {job['group']}"
        for job in offline._list({**question, "home": home}, args)["jobs"]
    ]
    assert groups
    assert set(groups) <= set(home)
    home[groups[0]] = "0123456789abcdef"
    said = offline._list({**question, "home": home}, args)
    assert [f"mft-fig2 {job['group']}" for job in said["jobs"]] == groups[1:]
    assert "other keys than at home" in said["absent"][groups[0]]
    file.write_text("[]")
    run = ["work", "--minutes", "2", "--out", str(tmp_path / "out"), "--keys", str(file)]
    assert offline.main(run) == 2
    assert not (tmp_path / "out").exists()
