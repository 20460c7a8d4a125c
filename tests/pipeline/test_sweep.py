"""``mflib sweep``: what runs, what is run once only, what is said, and what a stop leaves."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mflib import parameters
from mflib.sweep import points

from .conftest import Project, is_running, make_project, wait_for


def sweeps(project: Project) -> list[Path]:
    """Return the folders of the sweeps of the first chapter, the oldest first."""
    found = (project.root / "runs" / "alpha" / "sweeps").glob("*")
    return sorted(found, key=lambda folder: (folder / ".lock").stat().st_ctime)


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "table.parquet")


def of_this_time(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table without what differs between equal runs."""
    return frame.drop(columns=["seconds", "computed", "host", "threads"])


def test_every_point_runs_once_across_sweeps_and_descriptions(project: Project) -> None:
    grid = ("--grid", "sigma_b2=0.1,0.2", "--grid", "activation=tanh,erf")
    code, said = project.mflib("sweep", "alpha", *grid, "--dry-run")
    assert code == 0, said
    assert "4 of 4 to run" in said
    assert not (project.root / "runs").exists()

    code, said = project.mflib("sweep", "alpha", *grid, "--jobs", "2")
    assert code == 0, said
    assert project.executed() == ["alpha"] * 4
    (folder,) = sweeps(project)
    assert f"Index:  {folder / 'index.html'}" in said
    assert "4/4" in said
    first = table(folder)
    assert list(first["sigma_b2"]) == [0.1, 0.1, 0.2, 0.2]
    assert list(first["activation"]) == ["tanh", "erf"] * 2
    assert list(first["outcome"]) == ["finished"] * 4
    assert list(first["ours alpha-sum"]) == [4.1, 3.1, 4.2, 3.2]
    assert set(first["threads"]) == {max(1, len(os.sched_getaffinity(0)) // 2)}
    for name in first["notebook"]:
        assert (folder / name).is_file()

    # The same again, in any words, executes nothing and leaves the same table.
    said_by_file = project.root / "sweep.yaml"
    said_by_file.write_text(
        "notebook: alpha\ngrid:\n  sigma_b2: {linspace: [0.1, 0.2, 2]}\n  activation: [tanh, erf]\n"
    )
    code, said = project.mflib("sweep", "sweep.yaml")
    assert code == 0, said
    assert project.executed() == []
    assert sweeps(project) == [folder]
    pd.testing.assert_frame_equal(table(folder), first)

    # Another sweep runs only what none has run, and another profile's name changes no point.
    listed = project.root / "more.yml"
    listed.write_text(
        "notebook: alpha\nprofile: paper\nparameters: {activation: erf}\n"
        "points:\n- {sigma_b2: 0.2}\n- {sigma_b2: 0.3}\n- {sigma_b2: 2e-1}\n"
    )
    code, said = project.mflib("sweep", "more.yml")
    assert code == 0, said
    assert project.executed() == ["alpha"]
    assert list(table(sweeps(project)[-1])["sigma_b2"]) == [0.2, 0.3]

    # A run that was stopped between its notebook and its record is not done again.
    (folder / first["notebook"][1]).with_suffix(".json").unlink()
    code, said = project.mflib("sweep", "alpha", *grid)
    assert code == 0, said
    assert project.executed() == []
    pd.testing.assert_frame_equal(of_this_time(table(folder)), of_this_time(first))

    # A run whose notebook was altered since, by one bit, is done again; so is one of other code.
    altered = folder / first["notebook"][0]
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    code, said = project.mflib("sweep", "alpha", *grid, "--jobs", "1")
    assert code == 0, said
    assert project.executed() == ["alpha"]
    pd.testing.assert_frame_equal(of_this_time(table(folder)), of_this_time(first))
    project.edit("mflib/alpha_theory.py", "BASE + 1", "BASE + 2")
    code, said = project.mflib("sweep", "alpha", *grid, "--dry-run")
    assert "4 of 4 to run" in said


def test_a_failing_run_stops_no_other_and_is_not_tried_again(project: Project) -> None:
    grid = ("sweep", "alpha", "--grid", "broken=true,false", "--grid", "seed=1,2", "-j", "2")
    code, said = project.mflib(*grid)
    assert code == 1
    assert said.count("failed: broken=true, seed=") == 2
    assert "RuntimeError: broken on purpose" in said
    assert sorted(project.executed()) == ["alpha"] * 4
    (folder,) = sweeps(project)
    frame = table(folder)
    assert list(frame["outcome"]) == ["failed", "failed", "finished", "finished"]
    kept = json.loads((folder / frame["notebook"][0]).read_text())
    assert any(
        o.get("ename") == "RuntimeError" for c in kept["cells"] for o in c.get("outputs", [])
    )

    assert project.mflib(*grid)[0] == 1
    assert project.executed() == []
    assert "2 of 4 to run" in project.mflib(*grid, "--again", "--dry-run")[1]
    code, said = project.mflib(*grid, "--again", "--snakemake", "--frobnicate")
    assert code == 1
    assert "unrecognized arguments: --frobnicate" in said
    assert project.executed() == []
    assert project.mflib(*grid)[0] == 1
    assert project.executed() == ["alpha"] * 2


DIE = """
with open(os.environ["MFLIB_TEST_TRACE"]) as trace:
    if seed == 1 or (seed == 0 and trace.read().count("alpha") == 1):
        os.kill(os.getpid(), 9)
"""


def test_a_run_whose_process_died_is_tried_twice_more(project: Project) -> None:
    project.edit("notebooks/alpha.py", "# %%\nprint(seed,", f"# %%{DIE}\nprint(seed,")
    code, said = project.mflib("sweep", "alpha", "--grid", "seed=0", "-j", "1")
    assert code == 0, said
    assert project.executed() == ["alpha"] * 2
    assert not list((project.root / "runs").rglob("*.failed.ipynb"))
    code, said = project.mflib("sweep", "alpha", "--grid", "seed=1,2", "-j", "1")
    assert code == 1
    assert "not finished: seed=1: the notebook's process died" in said
    assert project.executed() == ["alpha"] * 4
    assert list(table(sweeps(project)[-1])["outcome"]) == ["not finished", "finished"]


@pytest.mark.parametrize("whom", ["all", "the first"])
def test_a_stop_keeps_what_is_done_and_the_same_command_goes_on(
    project: Project, whom: str
) -> None:
    """Ctrl-C, which all processes of a terminal get, and what a service manager sends to one."""
    # The first to begin is quick, whichever it is, and the other slow.
    quick_first = (
        'if Path(os.environ["MFLIB_TEST_TRACE"]).read_text().count("alpha") == 1:\n    wait = 0\n'
    )
    project.edit("notebooks/alpha.py", "for _ in range(10)", f"{quick_first}for _ in range(10)")
    command = ("sweep", "alpha", "--grid", "seed=0,1", "-p", "wait=40", "-j", "1")
    process = project.start("mflib.cli", *command)
    wait_for(lambda: project.trace.read_text().count("alpha") == 2, 60)
    kernel = int(project.trace.read_text().split()[-1])
    if whom == "all":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Stopped: 1 of 2 runs are done and kept" in said
    assert "Traceback" not in said
    wait_for(lambda: not is_running(kernel), 10)
    (folder,) = sweeps(project)
    assert sorted(table(folder)["outcome"]) == ["finished", "not finished"]
    project.executed()
    code, said = project.mflib(*command)
    assert code == 0, said
    assert project.executed() == ["alpha"]
    assert list(table(folder)["outcome"]) == ["finished"] * 2


def test_two_sweeps_at_once_share_what_both_want(project: Project) -> None:
    one = project.start("mflib.cli", "sweep", "alpha", "-g", "seed=0,1", "-p", "wait=2", "-j", "1")
    wait_for(project.trace.read_text, 60)
    same = project.mflib("sweep", "alpha", "--grid", "seed=0,1", "-p", "wait=2", "--jobs", "1")
    assert same[0] == 1
    assert f"this sweep is at work already (process {one.pid})" in same[1]
    code, said = project.mflib("sweep", "alpha", "--grid", "seed=1,0,2", "-p", "wait=2", "-j", "3")
    assert code == 0, said
    said, _ = one.communicate(timeout=60)
    assert one.returncode == 0, said
    assert project.executed() == ["alpha"] * 3
    assert list(table(sweeps(project)[-1])["outcome"]) == ["finished"] * 3


def test_runs_are_spread_one_to_a_gpu(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    # Inside an allocation of Slurm, with a profile for its jobs, and a folder of one's own.
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "of-the-cluster")
    monkeypatch.setenv("MFLIB_RUNS", "my runs")
    project.edit(
        "notebooks/alpha.py",
        "wait: float = 0.0",
        'device: str = "auto"  # where {auto, cpu, cuda}\nwait: float = 1.0',
    )
    span = 'Path(os.environ["MFLIB_TEST_TRACE"] + f".{seed}").write_text(f"{began} {time.time()} " '
    project.edit("notebooks/alpha.py", "import time\n", "import time\n\nbegan = time.time()\n")
    project.edit(
        "notebooks/alpha.py",
        "# %%\nprint(seed,",
        f'# %%\n{span}+ os.environ["CUDA_VISIBLE_DEVICES"])\nprint(seed,',
    )
    code, said = project.mflib("sweep", "alpha", "--grid", "seed=0,1,2,3")
    assert code == 0, said
    spans = [Path(f"{project.trace}.{seed}").read_text().split() for seed in range(4)]
    assert len(list((project.root / "my runs" / "alpha").glob("*.json"))) == 4
    by_gpu = {gpu: sorted(span[:2] for span in spans if span[2] == gpu) for gpu in ("3", "5")}
    assert sum(map(len, by_gpu.values())) == 4
    assert all(by_gpu.values())
    for held in by_gpu.values():
        ends = [float(time) for span in held for time in span]
        assert ends == sorted(ends), "two runs had one GPU at the same time"
    code, said = project.mflib("sweep", "alpha", "--grid", "seed=7", "-p", "device=cpu")
    assert code == 0, said
    assert Path(f"{project.trace}.7").read_text().split()[2] == "3,5"


def test_code_that_changes_under_a_sweep_is_not_taken_for_what_was_planned(
    tmp_path: Path,
) -> None:
    project = make_project(tmp_path / "a {project} #1 (mine)", ["alpha"])
    process = project.start(
        "mflib.cli", "sweep", "alpha", "-g", "seed=0,1", "-p", "wait=3", "-j", "1"
    )
    wait_for(project.trace.read_text, 60)
    project.edit("mflib/shared.py", "BASE = 1", "BASE = 2")
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 1, said
    assert ": what the notebook depends on was changed after the sweep was begun" in said
    assert "seed=0: what the notebook depends on was changed while it was executed" in said
    assert project.executed() == ["alpha"]
    assert list(table(sweeps(project)[0])["outcome"]) == ["not finished"] * 2
    assert not list((project.root / "runs" / "alpha").glob("*.ipynb"))


BAD = {
    "unknown": (["alpha", "-g", "sigma_b=1,2"], ["did you mean 'sigma_b2'"]),
    "each bad point": (
        ["alpha", "-g", "seed=1,-1,2,x", "-g", "activation=tanh,erff"],
        [
            "seed=1, activation=erff: activation = 'erff' is out of range",
            "seed=-1, activation=tanh: seed = -1 is out of range",
            "seed=x, activation=tanh: seed = 'x' is not an int",
            "6 of 8 points cannot be run; none was begun",
        ],
    ),
    "nothing varies": (["alpha"], ["needs something that varies"]),
    "twice": (["alpha", "-g", "seed=1", "-g", "seed=2"], ["is given twice"]),
    "fixed too": (["alpha", "-g", "seed=1", "-p", "seed=2"], ["both fixed and varied"]),
    "empty value": (["alpha", "-g", "seed=1,"], ["has an empty value"]),
    "no range": (
        ["alpha", "-g", "sigma_b2=linspace(1,2,x)"],
        ["two finite numbers and a whole number"],
    ),
    "range of words": (["alpha", "-g", "activation=linspace(1,2,3)"], ["list its values"]),
    "through nought": (["alpha", "-g", "sigma_b2=logspace(0,2,3)"], ["must be above 0"]),
    "too many": (
        ["alpha", "-g", "seed=linspace(0,9000,9001)", "-g", "broken=true,false"],
        ["more"],
    ),
    "no notebook": (["alpah", "-g", "seed=1"], ["did you mean 'alpha'"]),
    "no profile": (["alpha", "-g", "seed=1", "--profile", "papr"], ["did you mean 'paper'"]),
    "no executor": (["alpha", "-g", "seed=1", "--executor", "slrum"], ["did you mean 'slurm'"]),
    "not the user's": (["alpha", "-g", "seed=1", "--snakemake", "--config a=1"], ["mflib decides"]),
    "no jobs": (["alpha", "-g", "seed=1", "--jobs", "0"], ["give 1 or more"]),
    "no file": (["no.yaml"], ["cannot be read"]),
    "file and grid": (["no.yaml", "-g", "seed=1"], ["leave --grid"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said_in_full_and_nothing_is_written(
    case: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from mflib import cli

    monkeypatch.setenv("MFLIB_ROOT", str(project.root))
    monkeypatch.chdir(project.root)
    arguments, sentences = BAD[case]
    before = project.files()
    result = CliRunner().invoke(cli.app, ["sweep", *arguments])
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == (7 if case == "each bad point" else 1)
    for sentence in sentences:
        assert any(sentence in line for line in lines), result.stderr
    assert project.files() == before
    assert project.executed() == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("grid: {seed: [1]}", "which notebook?"),
        ("notebook: alpha", "nothing varies"),
        ("notebook: alpha\ngird: {seed: [1]}", "did you mean 'grid'"),
        ("notebook: alpha\ngrid: {seed: 1}", "is no list of values"),
        ("notebook: alpha\ngrid: {sigma_b2: {linspace: [1, 2]}}", "is no range"),
        ("notebook: alpha\ngrid: {sigma_b2: {geomspace: [1, 2, 3]}}", "is no range"),
        ("notebook: alpha\ngrid: [seed]", "grid is no list of 'parameter: value' lines"),
        ("notebook: alpha\npoints: {seed: 1}", "points is no list"),
        ("notebook: alpha\npoints: [1]", "point 1 is no list"),
        ("notebook: [", "cannot be read"),
        ("notebook: 3\n", "which notebook?"),
        ("", "which notebook?"),
    ],
)
def test_a_bad_file_is_one_sentence(
    content: str, sentence: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MFLIB_ROOT", str(project.root))
    file = project.root / "sweep.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"sweep\.yaml") as refused:
        points.from_file(file)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


FLOAT = parameters.parse("x: float = 1.0  # a number [-inf, inf]")["x"]
INT = parameters.parse("n: int = 1  # a number [-1000000, 1000000]")["n"]


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 50))
def test_ranges_are_even_and_end_where_they_are_said_to(low: float, high: float, n: int) -> None:
    even = points.evenly("linspace", low, high, n, FLOAT)
    ratio = points.evenly("logspace", low, high, n, FLOAT)
    scale = max(low, high)
    for values in (even, ratio):
        assert len(values) == n
        assert values[0] == pytest.approx(low, rel=1e-11)
        assert values[-1] == pytest.approx(high, rel=1e-11)
    steps = [b - a for a, b in itertools.pairwise(even)]
    assert max(steps) - min(steps) <= 1e-10 * scale
    ratios = [b / a for a, b in itertools.pairwise(ratio)]
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-10)
    whole = points.evenly("linspace", round(low), round(high), n, INT)
    assert len(set(whole)) == len(whole)
    assert all(type(value) is int for value in whole)


def test_a_third_is_the_same_by_whichever_steps() -> None:
    """So that two sweeps that meet at a point name it alike."""
    fine = points.evenly("linspace", 0.0, 1.0, 11, FLOAT)
    assert set(points.evenly("linspace", 0.0, 1.0, 6, FLOAT)) <= set(fine)
    assert fine[3] == 0.3


def test_lists_are_parted_by_semicolons(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFLIB_ROOT", str(project.root))
    sweep = points.from_options("alpha", {"depths": "1,2;3", "limit": "None,inf,2"})
    plans, bad = points.decide(sweep)
    assert not bad
    assert [plan.values["depths"] for plan in plans] == [[1, 2]] * 3 + [[3]] * 3
    assert [plan.values["limit"] for plan in plans] == [None, float("inf"), 2.0] * 2
    plans, bad = points.decide(points.from_options("alpha", {"sigma_b2": "0,-0.0,0.0"}))
    assert not bad
    assert len(plans) == 1
