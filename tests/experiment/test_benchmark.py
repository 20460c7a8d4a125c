"""The benchmarks run in tiny sizes and print sound JSON lines (their timings are not judged)."""

import json
import math
import runpy
import sys

import numpy as np
import pytest
from pretend_cuda import machine

from mflib import paths
from mflib.experiment import costs
from mflib.experiment.networks import FullyConnected
from mflib.experiment.store import Store


@pytest.fixture
def run(monkeypatch, capsys):
    """Return what runs a benchmark with arguments and returns its lines by what they measure."""

    def one(name, *arguments):
        script = paths.root() / "benchmarks" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        runpy.run_path(str(script), run_name="__main__")
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return one


def of(lines, name):
    return [line for line in lines if line["benchmark"] == name]


def sound(line):
    """Assert that the figures of a comparison agree with one another."""
    apart, together = line["one_at_a_time_ms_per_step"], line["ensemble_ms_per_step"]
    assert line["ratio"] == pytest.approx(apart / together, rel=0.02)
    if "share_of_bound" in line:
        assert line["share_of_bound"] == pytest.approx(
            line["bound_ms_per_step"] / together, rel=0.1, abs=1e-3
        )
        reached = line["ensemble_gflops"] >= line["goals"]["gflops"]
        assert line["reached"] == {"ratio": line["ratio"] >= 30, "gflops": reached}


def test_training_on_the_cpu(run):
    lines = run("training", "--device", "cpu", "--rehearse")
    assert [line["benchmark"] for line in lines[:2]] == ["matmul", "copy"]
    assert lines[0]["gflops"] > 0
    assert lines[1]["gb_per_s"] > 0
    compared = of(lines, "training")
    assert {line["architecture"] for line in compared} == {"FullyConnected", "Convolutional"}
    for line in compared:
        sound(line)
        assert line["waits_inside_an_epoch"] is None
        assert line["graphed_ms_per_step"].startswith("skipped")
    points, depth = of(lines, "growth")
    assert points["cases"] == [{"members": 2, "depth": 3}, {"members": 4, "depth": 3}]
    slope = (points["ms_per_step"][1] - points["ms_per_step"][0]) / 2
    assert points["fitted_ms_each"] == pytest.approx(slope, abs=2e-4)
    assert depth["exponent"] == pytest.approx(
        math.log2(depth["ms_per_step"][1] / depth["ms_per_step"][0]), abs=0.02
    )
    assert [line["segment"] for line in of(lines, "checkpointing")] == [3, 3]


def test_training_as_on_a_gpu(run):
    with machine() as gpu:
        lines = run("training", "--device", "cuda", "--rehearse")
    compared = of(lines, "training")
    assert len(compared) == 2
    for line in compared:
        sound(line)
        assert line["matrix_precision"] == "tf32"
        assert line["waits_inside_an_epoch"] == 0
        assert line["waits_as_an_epoch_begins"] == 1
        both = {name: line[f"{name}_ms_per_step"] for name in ("eager", "graphed")}
        assert line["one_at_a_time"] == min(both, key=both.get)
        assert line["one_at_a_time_ms_per_step"] == min(both.values())
    # two networks alone and the ensemble at each of two depths, and the four of the growth
    assert len(gpu.graphs) == 10
    assert all(graph.replays > 0 for graph in gpu.graphs)


def test_the_bytes_and_operations_of_a_step_are_those_counted_by_hand():
    script = runpy.run_path(str(paths.root() / "benchmarks" / "training.py"), run_name="there")
    network = FullyConnected.draw(
        "tanh", sigma_w2=[1.5] * 2, sigma_b2=0.05, width=3, depth=2, n_in=5, n_out=4, seeds=range(2)
    )
    weights = 2 * (5 * 3 + 3 * 3 + 3 * 4)
    biases, activations = 2 * (3 + 3 + 4), 2 * 7 * (3 + 3)
    assert script["step_bytes"](network, 7) == 4 * (
        3 * (weights + biases) + 2 * activations + 2 * 7 * 5
    )
    up, down, at_weights = weights, weights - 2 * 5 * 3, weights
    assert script["step_flops"](network, 7) == 2 * 7 * (up + down + at_weights)


def is_ratio(ratio, seconds, epoch, half=0.5e-4):
    """Tell whether it is one of numbers that are all rounded to four decimals."""
    least = (seconds - half) / (epoch + half) - half
    return least <= ratio <= (seconds + half) / max(epoch - half, 1e-12) + half


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_reconstruction(run, device):
    given = ("--device", device, "--rehearse", "--shrinking")
    if device == "cuda":
        with machine():
            lines = run("reconstruction", *given)
    else:
        lines = run("reconstruction", *given, "--agree", "--critical")
    kinds = ["epoch", "faithful", "reduced", "closed-form", "one after another", "goals"]
    more = ["cutoff, faithful", "cutoff, reduced", "cutoff, closed-form", "critical sigma_w2"]
    assert [line["measured"] for line in lines] == kinds + (more if device == "cpu" else [])
    found = {line["measured"]: line for line in lines}
    assert found["goals"]["epochs"] == {name: found[name]["epochs"] for name in kinds[1:4]}
    for name in kinds[1:4]:
        taken = found[name]["seconds"], found["epoch"]["seconds"]
        assert is_ratio(found[name]["epochs"], *taken)
        assert found[name]["seconds"] > found[name]["evaluation_seconds"]
        assert found["goals"]["reached"][name] == (
            found[name]["epochs"] <= found["goals"]["at_most"][name]
        )


def test_costs_of_a_case_are_kept_and_say_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(costs.sources, "code_version", lambda _: "this code")
    monkeypatch.setattr(costs, "_apart", lambda case: list(costs.measure(case, "cpu")))
    wide, shrinking = costs.paper_cases(rehearse=True)
    assert [case.shape for case in costs.paper_cases()] == ["wide", "shrinking"] * 2
    assert [case.width for case in costs.paper_cases()] == [784, 784, 1024, 1024]
    assert costs.key(wide, "cpu") != costs.key(wide, "cuda")
    store = Store(tmp_path)
    table = costs.table([shrinking], store=store, device="cpu", progress=False)
    assert store.has(costs.key(shrinking, "cpu"))
    row = table.iloc[0]
    assert is_ratio(row.faithful_epochs, row.faithful_seconds, row.epoch_seconds)
    assert row.peak_mib > 100
    assert np.isfinite(table.select_dtypes("number").to_numpy(float)).all()
    monkeypatch.setattr(costs, "row", lambda *_: pytest.fail("it is kept"))
    again = costs.table([shrinking], store=store, device="cpu", progress=False)
    assert again.equals(table)
    for wrong, said in (
        ({"shape": "narrow"}, "shape='narrow' must be one of wide, shrinking"),
        ({"data": "digits"}, "give side, or width"),
        ({"steps": 0}, "steps=0"),
    ):
        with pytest.raises(ValueError, match=said):
            costs.Case(**wrong)
