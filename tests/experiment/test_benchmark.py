"""The training benchmark runs and prints one JSON object per line (its timings are not judged)."""

import json
import runpy
import sys

from mflib import paths


def test_benchmark_prints_json_lines(monkeypatch, capsys):
    script = paths.root() / "benchmarks" / "training.py"
    arguments = [
        "--device",
        "cpu",
        "--members",
        "2",
        "--width",
        "8",
        "--steps",
        "2",
        "--repeats",
        "1",
        "--tower",
        "64",
    ]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["benchmark"] == "matmul"
    measured = [line for line in lines if line["benchmark"] == "training"]
    assert len(measured) >= 5
    assert {line["architecture"] for line in measured} == {"FullyConnected", "Convolutional"}
    towers = [line for line in lines if line["benchmark"] == "checkpointing"]
    assert [line["segment"] for line in towers] == [10, 8]
    assert all(line["memory_ratio"] > 3 and line["time_ratio"] > 0 for line in towers)
    assert all(line["ratio"] > 0 and line["waits_per_epoch"] is None for line in measured)
