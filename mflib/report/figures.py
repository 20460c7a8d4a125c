"""Figures that say what they are: caption, alternative text, provenance."""

from __future__ import annotations

import html
import io
import json
import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib import patheffects
from matplotlib.colors import LogNorm, Normalize

from mflib.report import provenance

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as Interactive

#: Perceptually uniform and safe for the common kinds of colour blindness.
SEQUENTIAL = "cividis"

#: The line colours, in order; each also differs in lightness (Okabe and Ito 2008, without yellow).
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

#: Dashes of lines over a map, in order.
LINE_STYLES = ("-", "--", ":", "-.")

DPI = 160

#: The kind of output that front ends draw with plotly.
INTERACTIVE = "application/vnd.plotly.v1+json"


def use_style() -> None:
    """Set the one style of all figures of the book."""
    import matplotlib as mpl
    import seaborn as sns

    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=list(CYCLE),
        rc={
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 100,
            "savefig.dpi": DPI,
            "image.cmap": SEQUENTIAL,
            "legend.frameon": False,
            "mathtext.fontset": "cm",
            "axes.titlesize": "medium",
        },
    )
    # Notebook front ends would otherwise also print the figure a second time, without its caption.
    mpl.rcParams["figure.max_open_warning"] = 0


def figure(
    fig: Figure,
    identifier: str,
    *,
    caption: str,
    alt: str,
    width: str = "100%",
    seed: int | None = None,
    device: str | None = None,
    scale: str | None = None,
    origin: Mapping[str, Any] | None = None,
    interactive: Interactive | None = None,
) -> None:
    """Publish a figure with its caption, alternative text and provenance, and close it.

    Parameters
    ----------
    fig : the matplotlib figure
    identifier : name for references, lower-case letters, digits and hyphens, e.g. "fc-phase"
    caption : Markdown, may hold ``$...$``; says what is drawn, with which settings
    alt : what a reader who cannot see it needs, plain text with at least one number
    width : share of the text's width, in percent
    seed, device, scale : where they differ from `report.begin`
    origin : the record of the table that it is drawn from (``recorded.computation``,
        ``recorded.origin``), which says all of that instead
    interactive : a plotly figure of the same data, which takes the picture's place in the book
        where scripts run; in print and without scripts the picture stays

    Raises ValueError for a malformed identifier, an empty caption, or an alternative text that
    holds no number.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    if not re.fullmatch(r"[a-z][a-z0-9-]*", identifier):
        raise ValueError(
            f"figure identifier {identifier!r}: use lower-case letters, digits and hyphens"
        )
    if not caption.strip():
        raise ValueError(f"figure {identifier!r} has no caption: say what is drawn")
    if not re.search(r"\d", alt):
        raise ValueError(f"figure {identifier!r}: the alternative text {alt!r} holds no number")

    record = provenance.collect(seed=seed, device=device, scale=scale, seconds=provenance.lap())
    if origin is not None:
        record |= provenance.of_record(origin)
    picture = io.BytesIO()
    # Without the fixed metadata the same figure would give other bytes on another day.
    fig.savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(fig)
    one_line = " ".join(caption.split())
    metadata: dict[str, Any] = {
        "kind": "figure",
        "id": identifier,
        "caption": one_line,
        "alt": " ".join(alt.split()),
        "width": width,
        "provenance": record,
    }
    shown: dict[str, Any] = {
        "image/png": picture.getvalue(),
        "text/plain": f"[{identifier}] {metadata['alt']}",
    }
    if interactive is not None:
        shown[INTERACTIVE] = json.loads(interactive.to_json(validate=True))
    display(
        shown,
        metadata={"mflib": metadata},
        raw=True,
    )
    source = provenance.line(record)
    display(
        {
            "text/markdown": f"*{one_line}*\n\n<small>{html.escape(source)}</small>",
            "text/plain": f"{one_line}\n{source}",
        },
        metadata={"mflib": {"kind": "figure-caption", "id": identifier}},
        raw=True,
    )


def power_of_ten(x: float) -> str:
    """Write a number ≥ 0 for a formula, those below 0.001 as a power of ten.

    >>> power_of_ten(0.05), power_of_ten(2.01e-5), power_of_ten(2e-5)
    ('0.05', '2.01\\\\times10^{-5}', '2\\\\times10^{-5}')
    """
    mantissa, exponent = f"{x:.2e}".split("e")
    if x >= 1e-3 or x == 0:
        return f"{x:.4g}"
    return rf"{float(mantissa):g}\times10^{{{int(exponent)}}}"


def accuracy_map(
    ax: Axes,
    sigma_w2: np.ndarray,
    depths: np.ndarray,
    accuracy: np.ndarray,
    *,
    chance: float,
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
) -> QuadMesh:
    """Draw accuracy over weight variance and depth, with labelled depth scales as lines over it.

    Parameters
    ----------
    ax : axes to draw on
    sigma_w2 : weight variances, shape (n,), increasing
    depths : numbers of hidden layers, shape (m,), increasing
    accuracy : shape (m, n), in [0, 1]; the colours run from ``chance`` to 1
    chance : accuracy of guessing
    curves : label → (weight variances, depths) of a line; where it leaves the axes it is cut

    Returns the mesh, for a colour bar.
    """
    mesh = depth_map(ax, sigma_w2, depths, accuracy, low=chance, high=1.0, lines=curves)
    ax.set(ylabel="depth $D$ (layers)")
    return mesh


def depth_map(
    ax: Axes,
    sigma_w2: np.ndarray,
    layers: np.ndarray,
    values: np.ndarray,
    *,
    low: float | None = None,
    high: float | None = None,
    lines: dict[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> QuadMesh:
    """Draw a quantity over weight variance and layer, with labelled lines over it.

    Parameters
    ----------
    ax : axes to draw on
    sigma_w2 : weight variances, shape (n,), increasing
    layers : shape (m,), increasing
    values : shape (m, n); what is not finite stays blank
    low, high : ends of the colours; unless given, those of the finite values
    lines : label → (weight variances, layers) of a line; where it leaves the axes it is cut

    Returns the mesh, for a colour bar.
    """
    norm = Normalize(vmin=low, vmax=high)
    mesh = _lined_map(ax, sigma_w2, layers, np.asarray(values), norm, lines or {})
    ax.set(xlabel=r"weight variance $\sigma_w^2$", ylabel=r"layer $\ell$")
    if lines:
        map_legend(ax)
    return mesh


def learning_curves(
    axis: Axes,
    races: Mapping[str, Mapping[str, pd.DataFrame]],
    *,
    labels: Mapping[str, str],
    colours: Mapping[str, str],
) -> None:
    """Draw training (solid) and test (dotted) accuracy over steps: the mean over networks.

    ``races``: kind of network → its tables ``train_accuracy`` and ``test_accuracy``, a row for
    each number of steps and a column for each network; ``labels`` and ``colours`` by kind. The band
    is one standard deviation of the training accuracy.
    """
    for kind, tables in races.items():
        colour = colours[kind]
        for name, style, word in (("train", "-", "training"), ("test", ":", "test")):
            table = tables[f"{name}_accuracy"]
            x, scores = table.index.to_numpy(), table.to_numpy()
            mean = scores.mean(1)
            axis.plot(x, mean, style, color=colour, label=f"{labels[kind]}, {word}")
            if style == "-" and scores.shape[1] > 1:
                spread = scores.std(1, ddof=1)
                axis.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)


def map_legend(
    ax: Axes, place: Literal["upper right", "upper left"] = "upper right", size: str = "small"
) -> None:
    """Name the white lines over a map, on a ground on which they can be read."""
    ax.legend(
        loc=place,
        labelcolor="white",
        facecolor="0.25",
        framealpha=0.8,
        frameon=True,
        fontsize=size,
    )


def phase_plane(
    ax: Axes,
    alpha: np.ndarray,
    gain: np.ndarray,
    values: np.ndarray,
    *,
    low: float | None = None,
    high: float | None = None,
    lines: dict[str, tuple[np.ndarray, np.ndarray]] | None = None,
    log: bool = False,
) -> QuadMesh:
    """Draw a quantity over stability index and weight scale, with labelled lines over it.

    Parameters
    ----------
    ax : axes to draw on
    alpha : stability indices, shape (n,), increasing
    gain : weight scales D_w^{1/α}, shape (m,), increasing
    values : shape (n, m); what is not finite stays blank
    low, high : ends of the colours; unless given, those of the finite values
    lines : label → (stability indices, weight scales) of a line; where it leaves the axes it is cut
    log : whether the colours are logarithmic

    Returns the mesh, for a colour bar.
    """
    norm = (LogNorm if log else Normalize)(vmin=low, vmax=high)
    mesh = _lined_map(ax, alpha, gain, np.asarray(values).T, norm, lines or {})
    ax.set(xlabel=r"stability index $\alpha$", ylabel=r"weight scale $D_w^{1/\alpha}$")
    return mesh


def _lined_map(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    norm: Normalize,
    lines: dict[str, tuple[np.ndarray, np.ndarray]],
) -> QuadMesh:
    """Draw values (m, n) over x (n,) and y (m,), with lines that leave the axes as they are."""
    shown = np.ma.masked_invalid(values)
    mesh = ax.pcolormesh(x, y, shown, shading="nearest", norm=norm, cmap=SEQUENTIAL)
    box = ax.get_xlim(), ax.get_ylim()
    # White over a dark edge is legible on both ends of the colour map.
    edge = [patheffects.Stroke(linewidth=4, foreground="black"), patheffects.Normal()]
    for style, (label, points) in zip(LINE_STYLES, lines.items(), strict=False):
        ax.plot(*points, style, color="white", lw=2, label=label, path_effects=edge)
    ax.set(xlim=box[0], ylim=box[1])
    ax.grid(False)
    return mesh
