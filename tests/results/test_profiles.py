"""Chapters at the paper's profile ask for the very shards that the registry computes."""

import ast
import dataclasses
import itertools
import json
import math
import shutil

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from mflib import notebooks, paths, results
from mflib.experiment import (
    boundary,
    data,
    entropies,
    jacobian,
    manifold,
    reconstruction,
    store,
    training,
)
from mflib.results import kinds
from mflib.theory import isometry, levy

from .test_chapters import Cell, Names, Shown, chapters, code_cells, needed, run


def canonical(settings):
    """Return settings as text, to nine digits: critical points have the rounding of a machine."""
    text = store.canonical(settings)
    return json.dumps(json.loads(text, parse_float=lambda number: f"{float(number):.9g}"))


def networks(grid, at, observation=None):
    """Return what decides each (depth, seed) of a grid, as text."""
    settings = dataclasses.asdict(dataclasses.replace(grid, steps=at[-1]))
    seen = None
    if observation is not None:
        function = observation.observe
        place = f"{function.__module__}.{function.__qualname__}"
        seen = [place, observation.n_inputs, observation.options]
    for depth, seed in itertools.product(settings.pop("depths"), settings.pop("seeds")):
        yield canonical({**settings, "depth": depth, "seed": seed, "at": at, "seen": seen})


def maps(settings):
    """Return what decides each (σ_w², seed) of a map of entropies, as text."""
    known = dataclasses.asdict(settings)
    for sigma_w2, seed in itertools.product(known.pop("sigma_w2"), known.pop("seeds")):
        yield canonical({**known, "sigma_w2": sigma_w2, "seed": seed})


def first_of(name):
    """Return the same of each block of a computation, at its first seed."""
    known, found = results.computation(name), {}
    if isinstance(known, kinds.Calls):
        group = known.groups()[0]
        return {group.part: set(map(canonical, known.keys(group, "cuda")))}
    if isinstance(known, kinds.Trainability):
        for block in known.blocks:
            grid = block.make(seeds=block.grid["seeds"][:1])
            found[block.name] = set(networks(grid, block.at, block.observed()))
    else:
        for one in known.maps:
            found[one.name] = set(maps(one.make(seeds=one.settings["seeds"][:1])))
    return found


def table(grid, at):
    """Return a table of the networks of a grid, none of which has learnt anything."""
    alphas = grid.alphas or (None,) * len(grid.sigma_w2)
    points = zip(grid.sigma_w2, alphas, strict=True)
    every = itertools.product(points, grid.depths, grid.seeds, grid.learning_rates, at)
    rows = [
        {
            **({} if alpha is None else {"alpha": alpha}),
            **{"sigma_w2": w2, "depth": depth, "seed": seed, "learning_rate": rate, "step": step},
        }
        for (w2, alpha), depth, seed, rate, step in every
    ]
    measures = {"train_accuracy": 0.1, "test_accuracy": 0.1, "train_loss": 2.3, "test_loss": 2.3}
    return pd.DataFrame(rows).assign(**measures, diverged=False)


ENTROPIES = (
    "sigma_w2", "seed", "layer", "differential", "differential_published", "relative",
    "relative_published", "correlation", "mode",
)  # fmt: skip

ASKING = (
    "training.learning_curves", "training.trainability", "training.observed", "entropies.entropies",
    "manifold.sweep",
)  # fmt: skip

# Blocks that no chapter asks for by itself: it reads their recorded tables alone.
ALONE = {
    "mft-fig1": {
        "relu-fine", "arctan-fine", "softsign-fine", "sigmoid-fine", "sigmoid-line-fine",
    },
    "mft-fig2": {"mnist-fine", "cifar10-fine"},
    "recon-fig3": {"epochs200"},
    "recon-fig4": {"faithful"},
    "recon-fig5": {"text-faithful"},
    "recon-fig9": {"faithful"},
    "mft-10k": {
        "mnist-1250", "mnist-2500", "mnist-5000", "mnist-10000", "cifar10-1250", "cifar10-2500",
        "cifar10-5000",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Return what all chapters ask for at the paper's profile, without computing it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return set().union(
            *(asked_by(name, monkeypatch, tmp_path_factory.mktemp(name)) for name in chapters())
        )


@pytest.mark.parametrize("name", [name for name in results.REGISTRY if name != "recon-tab1"])
def test_chapters_at_the_papers_profile_read_what_is_registered(name, asked):
    # A chapter may ask for fewer depths or weight variances; what it asks for has all settings.
    unread = {block for block, wanted in first_of(name).items() if not wanted & asked}
    assert unread == ALONE.get(name, set())


def asking(chapter):
    """Return the statements of a chapter, each a cell, marked if they have something computed."""
    found, askers = [], set(ASKING)
    for cell in code_cells(chapter):
        if cell.shows:
            continue
        for statement in ast.parse(cell.source).body:
            named = {
                ast.unparse(node)
                for node in ast.walk(statement)
                if isinstance(node, ast.Attribute | ast.Name)
            }
            asks = bool(named & askers)
            if isinstance(statement, ast.FunctionDef):
                askers |= {statement.name} if asks else set()
                asks = False
            source = ast.unparse(statement)
            asks = asks and not isinstance(statement, ast.Import | ast.ImportFrom)
            found.append(Cell(cell.number, source, Names(source), asks))
    return found


def asked_by(chapter, monkeypatch, tmp_path):
    asked = set()

    def learning_curves(grid, *, at, **_):
        asked.update(networks(grid, tuple(at)))
        return table(grid, at)

    def trainability(grid, **_):
        asked.update(networks(grid, (grid.steps,)))
        return table(grid, (grid.steps,))

    def observed(grid, observe, *, at, n_inputs=0, options=None, **_):
        seen = training.Observation(observe, n_inputs, dict(options or {}))
        asked.update(networks(grid, tuple(at), seen))
        return table(grid, at)

    def mapped(settings, **_):
        asked.update(maps(settings))
        layers = settings.layers or range(1, settings.depth + 3)
        rows = itertools.product(settings.sigma_w2, settings.seeds, layers)
        measures = [each for each in ENTROPIES if each not in ("sigma_w2", "seed", "layer", "mode")]
        found = pd.DataFrame(rows, columns=["sigma_w2", "seed", "layer"])
        return found.assign(**dict.fromkeys(measures, 0.5), mode=settings.mode)

    keys = manifold.sweep_keys

    def swept(*words, store=None, device="cpu", progress=True, **options):
        asked.update(map(canonical, keys(*words, **options, device="cuda")))
        raise LookupError("no circles here")

    original = data.load

    def load(name, *, input_range=(0.0, 1.0), side=None, grey=False, **options):
        """Return a data set of the right size that takes no memory."""
        if name == "noise":
            return original(name, input_range=input_range, **options)
        few = original("digits", input_range=input_range)
        n, colours, own = {"cifar10": (50_000, 3, 32)}.get(name, (60_000, 1, 28))
        shape = (1 if grey else colours, side or own, side or own)
        parts = {f"x_{part}": (m, math.prod(shape)) for part, m in (("train", n), ("test", 10_000))}
        empty = {part: torch.zeros(()).expand(*size) for part, size in parts.items()}
        labels = {"y_train": torch.arange(n) % 10, "y_test": torch.arange(10_000) % 10}
        return dataclasses.replace(few, name=name, image_shape=shape, **empty, **labels)

    def skipped(*_, **__):
        raise LookupError("too long for a test")

    def fitted(accuracy, *_, **__):
        one = boundary.Interval(1.0, 1.0, 1.0, 0.95, 1.0)
        return boundary.MultipleFit(
            **{
                field.name: {"Interval": one, "float": 0.5, "int": len(accuracy)}.get(
                    field.type, one
                )
                for field in dataclasses.fields(boundary.MultipleFit)
            }
        )

    for module, function, name in (
        (data, load, "load"),
        (training, learning_curves, "learning_curves"),
        (training, trainability, "trainability"),
        (training, observed, "observed"),
        (entropies, mapped, "entropies"),
        (manifold, swept, "sweep"),
        (boundary, fitted, "fit_multiple"),
        (reconstruction, skipped, "cascade"),
        (reconstruction, skipped, "predict"),
        (reconstruction, skipped, "critical_sigma_w2"),
        (isometry, skipped, "spectrum"),
        (jacobian, skipped, "sample_spectrum"),
        (levy, skipped, "eigenvalue_density"),
    ):
        monkeypatch.setattr(module, name, function)
    matplotlib.use("agg")
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path))
    for file in paths.results().glob("*.*"):  # tables of other programs, that chapters read
        shutil.copy(file, tmp_path)
    monkeypatch.setenv("MFLIB_RESULTS", str(tmp_path))
    shown = Shown()
    monkeypatch.setattr("IPython.display.display", shown)
    values = notebooks.plan(chapter, "paper").values
    if "eigen_networks" in values:  # eigenvalues that nothing here is about
        values |= {"eigen_networks": 1, "eigen_width": 10}
    names: dict = {"__name__": "__main__", **values}
    for cell in needed(asking(chapter)):
        # What follows of a call that gave nothing may fail, and is not asked for here.
        try:
            run(cell.source, names, shown)
        except Exception as error:
            print(f"{type(error).__name__}: {error}\n  in {cell.source[:60]!r}")
        plt.close("all")
    return asked
