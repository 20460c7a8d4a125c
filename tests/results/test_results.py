"""Recorded computations: rehearsed, stopped, resumed, damaged, stale; and how each is told."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from mflib import notebooks, paths, recorded, results, sources
from mflib.experiment.store import Store
from mflib.report import provenance
from mflib.results import kinds, registry, running, tables
from mflib.results.terminal import app
from mflib.sweep import launch
from mflib.theory import mean_field

HERE = Path(__file__).resolve().parents[2]
FIG2 = "mft-fig2"

# In every process of the package: say which shards are recorded, and die once before the second.
HOOK = """\
import os, signal, sys

if "mflib.results" in sys.orig_argv and sys.orig_argv[-1].endswith("cifar10-seed0-1of1"):
    trace, shards = os.environ["MFLIB_TEST_TRACE"], os.environ["MFLIB_CACHE"]

    def watch(event, arguments):
        if event == "os.rename" and str(arguments[1]).startswith(shards):
            if str(arguments[1]).endswith(".json"):
                with open(trace, "a+") as file:
                    print(os.getpid(), file=file)
                    file.seek(0)
                    if len(file.readlines()) == 2:
                        os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a folder with a copy of the package's sources, a cache and results of its own."""
    root = tmp_path / "project"
    shutil.copytree(
        HERE / "mflib", root / "mflib", ignore=shutil.ignore_patterns("__pycache__", "static")
    )
    (root / "notebooks").mkdir()
    shutil.copy(HERE / "notebooks" / "resources.yaml", root / "notebooks")
    monkeypatch.setenv("MFLIB_ROOT", str(root))
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MFLIB_DATA", raising=False)
    results.computation.cache_clear()
    yield root
    results.computation.cache_clear()


def compute(name=FIG2, only=None):
    for group in results.groups(name, rehearse=True):
        if only is None or group.part == only:
            results.compute_group(name, group.name, rehearse=True, device="cpu", progress=False)


def names(jobs):
    return [job.group.name for job in jobs]


def pending(**options):
    return names(results.pending([FIG2], rehearse=True, device="cpu", **options))


def lines():
    return {one.name: one for one in results.status(rehearse=True)}


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def run_inside(monkeypatch):
    """Have jobs run here and now, without Snakemake."""

    def jobs(snakefile, manifest, **_):
        for name in json.loads(manifest.read_text())["jobs"]:
            assert results.job([str(manifest), name]) == 0

    monkeypatch.setattr(launch, "snakemake", jobs)


# ---- what is registered -----------------------------------------------------------------------


@pytest.mark.parametrize("name", results.REGISTRY)
def test_groups_cover_everything_once_and_what_comes_first_is_whole_and_short(name):
    known, groups = results.computation(name), results.groups(name)
    assert [group.stage for group in groups] == sorted(group.stage for group in groups)
    assert len({group.name for group in groups}) == len(groups)
    if isinstance(known, kinds.Calls):
        found = [tuple(sorted(map(str, group.what.items()))) for group in groups]
        assert len(set(found)) == len(groups)
        return
    wanted, found, biggest = set(), [], {}
    for group in groups:
        block, seed, some = group.what
        found += [(block.name, seed, each) for each in some]
        biggest[block.name] = max(biggest.get(block.name, 0), group.seconds)
        every = (
            block.grid["depths"] if isinstance(block, kinds.Block) else block.settings["sigma_w2"]
        )
        if group.name.endswith(("-1of2", "-1of3", "-1of4", "-1of5")):
            # Coarse, not a corner: the first group of several reaches over the whole picture.
            assert min(some) <= sorted(every)[len(every) // 3]
            assert max(some) >= sorted(every)[-len(every) // 3]
        wanted |= {(block.name, s, each) for s in block_seeds(block) for each in every}
    assert len(found) == len(set(found))
    assert set(found) == wanted
    if known.piece < math.inf:
        for name, seconds in biggest.items():
            one = next(each for each in groups if each.what[0].name == name)
            assert seconds <= 2 * known.piece or len(one.what[2]) == 1  # shares of whole items


def test_critical_points_are_those_of_theory():
    line = mean_field.critical_sigma_w2("tanh", 0.05).sigma_w2
    assert pytest.approx(float(line), rel=1e-12) == registry.LINE
    for known, q_star in ((registry.SMALL, 1 / 64), (registry.SMALLEST, 1e-4)):
        point = mean_field.critical_at("tanh", q_star)
        assert known[0] == pytest.approx(float(point.sigma_w2), rel=1e-12)
        assert known[1] == pytest.approx(float(point.sigma_b2), rel=1e-9)


def test_what_changes_one_block_leaves_the_others_recorded(project, monkeypatch):
    compute()
    file = results.collect(FIG2, rehearse=True, device="cpu")
    known = results.computation(FIG2, rehearse=True)
    first, second = known.blocks
    other = dataclasses.replace(second, grid={**second.grid, "learning_rate": 2e-3})
    changed = dataclasses.replace(known, blocks=(first, other), _known={})
    monkeypatch.setitem(registry.REGISTRY, FIG2, lambda _: changed)
    results.computation.cache_clear()
    assert tables.unrecorded(changed, rehearse=True) == ["cifar10-seed0"]
    elsewhere = Store(project / "empty")
    assert results.collect(FIG2, store=elsewhere, rehearse=True, device="cpu") == file
    assert set(pd.read_parquet(file)["part"]) == {"mnist-seed0", "cifar10-seed0"}
    for group in changed.groups():
        results.compute_group(FIG2, group.name, rehearse=True, device="cpu", progress=False)
    results.collect(FIG2, rehearse=True, device="cpu")
    table = pd.read_parquet(file)
    assert set(table["part"]) == {"mnist-seed0", "cifar10-seed0"}
    assert set(table[table["part"] == "cifar10-seed0"]["learning_rate"]) == {2e-3}


def block_seeds(block):
    return (block.grid if isinstance(block, kinds.Block) else block.settings)["seeds"]


def test_settings_are_those_of_the_chapter_so_that_it_reads_these_shards():
    values = notebooks.plan("fc-theory", "paper").values
    pictures = [
        block for name in ("mft-fig1", "mft-fig2") for block in results.computation(name).blocks
    ]
    # each also at the paper's own 90 × 91 points, which no chapter asks for, after all else
    stages = {
        group.stage: group.name for name in results.REGISTRY for group in results.groups(name)
    }
    assert "-fine-" in stages.pop(max(stages))
    assert max(stages) < registry.LAST
    coarse = [block for block in pictures if not block.name.endswith("-fine")]
    for block, fine in zip(coarse, [each for each in pictures if each not in coarse], strict=True):
        assert fine.name == f"{block.name}-fine"
        assert fine.stage == registry.LAST
        own = {"depths": list(range(10, 101)), "seeds": [0]}
        assert len(fine.grid["sigma_w2"]) == 90
        assert {name: list(fine.grid[name]) for name in own} == own
        points = {name: fine.grid[name] for name in ("sigma_w2", *own)}
        assert {**block.grid, **points} == dict(fine.grid)
        assert [fine.grid["sigma_w2"][k] for k in (0, -1)] == [
            block.grid["sigma_w2"][k] for k in (0, -1)
        ]
    blocks = {
        (block.grid["dataset"], block.grid.get("activation", "tanh"), block.grid["sigma_w2"][0]): (
            block
        )
        for block in coarse
    }
    assert len(blocks) == 7
    for block in blocks.values():
        grid = block.make()
        assert len(grid.sigma_w2) == values["n_sigma_w2"]
        assert (grid.width, grid.batch_size) == (values["width"], values["batch_size"])
        assert grid.learning_rates == (values["learning_rate"],)
        assert (list(grid.depths), grid.seeds[0]) == (values["depths"], values["seed"])
        assert grid.momentum == values["momentum"] == values["relu_momentum"]
    odd = values["sigma_b2"]
    for key, at, bias, top in (
        (("mnist", "tanh", 1.0), tuple(values["tanh_steps"]), odd, 4.0),
        (("cifar10", "tanh", 1.0), (values["tanh_steps"][1],), odd, 4.0),
        (("mnist", "arctan", 1.0), (values["steps"],), odd, 4.0),
        (("mnist", "softsign", 1.0), (values["steps"],), odd, 4.0),
        (("mnist", "relu", 1.0), (values["steps"],), 2.01e-5, values["relu_sigma_w2_max"]),
        (("mnist", "sigmoid", 1.0), (values["steps"],), 0.09, 4.0),
        (("mnist", "sigmoid", 60.0), (values["steps"],), 0.09, 160.0),
    ):
        grid = blocks[key].make()
        assert (blocks[key].at, grid.sigma_b2, grid.sigma_w2[-1]) == (at, bias, top)


def test_what_cannot_be_is_told_in_one_sentence_before_any_work(project, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for arguments, says in (
        (["run", "mft-fig7"], "no computation 'mft-fig7': those known are mft-fig2, mft-fig1"),
        (["run", "--rehearse", "--device", "tpu"], "device 'tpu' must be"),
        (["run", "--rehearse", "--executor", "pbs"], "no executor 'pbs'"),
        (["run"], "there is no GPU here, and on a CPU each group would take hours to days"),
    ):
        said = CliRunner().invoke(app, arguments)
        assert said.exit_code == 2
        assert says in said.output
        assert said.output.count("\n") == 1
    with pytest.raises(ValueError, match="mft-fig2 has no group 'x': the first is 'mnist-seed0-1"):
        results.compute_group(FIG2, "x", rehearse=True)
    with pytest.raises(ValueError, match=r"group 3 of mft-fig2 must be in \[0, 3\)"):
        results.compute_group(FIG2, 3, rehearse=True)
    assert not paths.build().exists()
    assert not paths.cache().exists()


# ---- rehearsed through Snakemake --------------------------------------------------------------


def test_a_rehearsal_goes_on_where_a_killed_group_was_and_ends_with_the_same_bits(
    project, tmp_path, monkeypatch
):
    compute()
    whole = results.collect(FIG2, rehearse=True).read_bytes()
    shutil.rmtree(paths.build())
    for shard in (tmp_path / "cache").rglob("*.json"):
        if json.loads(shard.read_text())["key"]["dataset"] == "breast-cancer":
            shard.unlink()
    assert pending() == ["cifar10-seed0-1of1"]
    first = results.computation(FIG2, rehearse=True).keys(
        results.groups(FIG2, rehearse=True)[0], "cpu"
    )
    record = Store().record(first[0])
    damage(Store().record_path(first[0]).with_name(record["table"]))
    with pytest.warns(RuntimeWarning, match="does not have its recorded checksum"):
        assert pending() == ["mnist-seed0-1of2", "cifar10-seed0-1of1"]
    hook, trace = tmp_path / "hook", tmp_path / "trace"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    done = subprocess.run(
        [sys.executable, "-c", "from mflib.results.terminal import app; app()",
         "run", FIG2, "--rehearse", "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": str(hook), "MFLIB_TEST_TRACE": str(trace)},
        capture_output=True, text=True, check=False, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # One shard, then killed at the second; the second process had the other two to compute.
    pids = trace.read_text().split()
    assert len(pids) == 4
    assert pids[0] == pids[1] != pids[2] == pids[3]
    table = tables.table_file(FIG2, rehearse=True)
    assert f"mft-fig2: {table}" in done.stdout
    assert table.read_bytes() == recorded.read(table) == whole
    said = done.stderr
    assert "mft-fig2 mnist-seed0-1of2: 2 shards in" in said
    assert "mft-fig2 cifar10-seed0-1of1: 3 shards in" in said
    assert "mnist-seed0-2of2" not in said
    record = recorded.record(table)
    assert record["device"] == "CPU"
    assert list(record["parts"]) == ["mnist-seed0", "cifar10-seed0"]
    assert record["missing"] == []
    part = record["parts"]["mnist-seed0"]
    assert (part["shards"], part["seeds"], part["precision"]) == (3, [0], "float32, ieee")
    assert set(part["data"]) == {"digits"}
    assert record["code"] == {
        "mflib.experiment.descent": sources.code_version("mflib.experiment.descent")
    }
    assert record["settings"]["mnist"]["width"] == 8


# ---- recorded, stale, damaged -----------------------------------------------------------------


def test_parts_are_recorded_as_they_are_complete_and_the_state_says_so(project, monkeypatch):
    monkeypatch.setenv("MFLIB_RESULTS", str(tables.table_file(FIG2, rehearse=True).parents[1]))
    assert results.collect(FIG2, rehearse=True) is None
    line = lines()[FIG2]
    assert (line.shards, line.state, line.device) == ("0 of 6", "not recorded", "")
    compute(only="cifar10-seed0")
    file = results.collect(FIG2, rehearse=True)
    table = pd.read_parquet(file)
    assert set(table.dataset) == {"breast-cancer"}
    assert len(table) == 9
    line = lines()[FIG2]
    assert (line.shards, line.state, line.device) == ("3 of 6", "1 of 2 parts recorded", "CPU")
    known = recorded.computation(FIG2)
    assert known.sentence().startswith("Recorded on CPU (float32, ieee), ")
    assert known.sentence().endswith(" from 3 shards; seed 0. 1 of 2 parts so far.")
    there = known.only(lambda part: part.startswith("cifar10-"))
    assert there.sentence().endswith(" from 3 shards; seed 0.")
    assert (there.parts, there.missing, len(there.table)) == (["cifar10-seed0"], [], 9)
    assert provenance.of_record(there.record)["seed"] == "0"
    with pytest.raises(ValueError, match="none of the parts asked for is recorded: cifar10-seed0"):
        known.only(lambda part: part.startswith("mnist-"))
    # What is recorded needs its shards no more: they may be on another machine.
    shutil.rmtree(paths.cache())
    assert {job.group.part for job in results.pending([FIG2], rehearse=True)} == {"mnist-seed0"}
    assert lines()[FIG2].shards == "3 of 6"
    compute(only="mnist-seed0")
    stamp = results.collect(FIG2, rehearse=True).stat().st_mtime_ns
    assert lines()[FIG2].state == "recorded"
    assert pending() == []
    compute()
    table = pd.read_parquet(file)
    assert not table.duplicated(
        ["activation", "dataset", "sigma_w2", "depth", "seed", "step"]
    ).any()
    assert len(table) == 9 + 18
    assert dict(table.groupby("part").dataset.first()) == {
        "cifar10-seed0": "breast-cancer",
        "mnist-seed0": "digits",
    }
    line = lines()[FIG2]
    assert (line.shards, line.state) == ("6 of 6", "recorded")
    assert all(part["seconds"] > 0 for part in recorded.record(file)["parts"].values())
    assert results.collect(FIG2, rehearse=True).stat().st_mtime_ns == stamp  # nothing new

    # The code that computes it changes, and with it the keys of its shards.
    kernel = project / "mflib" / "experiment" / "descent.py"
    kernel.write_text(kernel.read_text() + "\n_ANOTHER = 1\n")
    results.computation.cache_clear()
    line = lines()[FIG2]
    assert line.shards == "0 of 6"
    assert line.state == "stale, recorded: mflib.experiment.descent changed"
    assert len(pending()) == 3
    damage(file)
    assert lines()[FIG2].state.startswith("damaged: _build/rehearsal/mft-fig2/table.parquet does")


def test_a_group_that_cannot_be_computed_is_named_and_the_others_are_recorded(
    project, monkeypatch, capsys
):
    run_inside(monkeypatch)
    original = results.compute_group

    def fails_once(name, group, **options):
        if group.startswith("mnist"):
            raise MemoryError("one network of depth 4 does not fit")
        return original(name, group, **options)

    monkeypatch.setattr(running, "compute_group", fails_once)
    assert results.run([FIG2], rehearse=True, device="cpu") == 1
    said = capsys.readouterr().err
    assert said.count("mnist-seed0-1of2 failed: MemoryError: one network of depth 4 does not") == 1
    assert lines()[FIG2].state == "1 of 2 parts recorded"
    monkeypatch.setattr(running, "compute_group", original)
    # A mark that was left behind counts for nothing: the shards themselves are asked.
    assert results.run([FIG2], rehearse=True, device="cpu") == 0
    assert lines()[FIG2].state == "recorded"


def test_a_group_that_did_not_finish_is_counted(project, monkeypatch, capsys):
    monkeypatch.setattr(launch, "snakemake", lambda *_, **__: None)
    assert results.run([FIG2], rehearse=True, device="cpu") == 1
    said = capsys.readouterr()
    assert "3 of 3 groups did not finish; the same command goes on with them" in said.err
    assert "mft-fig2: no part of it is complete" in said.out


def test_other_recorded_tables_are_listed_as_fresh_stale_or_damaged(project):
    folder = paths.results()
    now = sources.code_version("mflib.experiment.reconstruction")
    for stem, code in (
        ("reconstruction-entropy-costs", sources.code_version("mflib.experiment._costs")),
        ("reconstruction-entropy-critical", {"mflib.experiment.reconstruction": now}),
        ("reconstruction-entropy-vgg", "0123456789abcdef"),
        ("levy-phase-diagram-weights", "0123456789abcdef"),
        ("faults", {"mflib.experiment.reconstruction": now, "mflib.gone": "0123456789abcdef"}),
    ):
        recorded.write(folder / f"{stem}.csv", b"a\n1\n", command="it", code=code, seconds=2)
    damage(folder / "levy-phase-diagram-weights.csv")
    said = CliRunner().invoke(app, ["status"])
    assert said.exit_code == 0
    rows = {line.split()[0]: line for line in said.output.splitlines()}
    assert "unknown: no mnist" in rows["mft-fig2"]
    assert " recorded " in rows["reconstruction-entropy-costs"]
    assert "2 s" in rows["reconstruction-entropy-costs"]
    for stem, module in (
        ("critical", "mflib.theory.mean_field"),
        ("vgg", "mflib.experiment.stages"),
    ):
        assert f"stale, recorded: {module} changed" in rows[f"reconstruction-entropy-{stem}"]
    assert "stale, recorded: mflib.gone changed" in rows["faults"]
    assert "damaged: results/levy-phase-diagram-weights.csv" in rows["levy-phase-diagram-weights"]


def test_the_recorded_tables_of_the_project_are_sound_and_say_which_code_made_them(monkeypatch):
    monkeypatch.setattr(tables, "REGISTRY", {})
    for one in results.status():
        record = recorded.record(paths.results() / f"{one.name}.csv")
        assert isinstance(record["code"], dict) or f"{one.name}.csv" in registry.TABLES
        assert "recorded" in one.state
