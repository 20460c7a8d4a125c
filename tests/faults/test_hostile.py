"""A file that would run a program when it is read: it is refused, and its program does not run.

Every trap here springs when it is read carelessly, which each test shows first.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import pickle
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mflib import notebooks, recorded
from mflib.experiment import data, stages, weights
from mflib.experiment.store import Store, canonical


class Trap:
    """Pickles as a command that makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.mark}'",)


class Evaluated(Trap):
    """The same through Python code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.mark)!r}, 'w').close()",)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Return the file that a sprung trap makes."""
    return tmp_path / "sprung"


def springs(mark: Path, read: Callable[[], object]) -> bool:
    """Tell whether reading carelessly runs the program, and take its mark away."""
    with contextlib.suppress(Exception):
        read()
    sprung = mark.exists()
    mark.unlink(missing_ok=True)
    return sprung


# --- state dicts ----------------------------------------------------------------------------------


def zipped(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def unzipped(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def swapped_pickle(payload: object) -> bytes:
    """Return a good archive whose pickle was replaced by another."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(zipped({"w": torch.ones(3, 4)}))) as good,
        zipfile.ZipFile(buffer, "w") as evil,
    ):
        for member in good.infolist():
            is_pickle = member.filename.endswith("data.pkl")
            evil.writestr(member, pickle.dumps(payload, 2) if is_pickle else good.read(member))
    return buffer.getvalue()


def tarred(payload: object) -> bytes:
    """Return the archive of the oldest versions of torch."""
    parts = {"sys_info": {}, "storages": 0, "tensors": 0, "pickle": payload}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, part in parts.items():
            content = pickle.dumps(part, 2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def several(payload: object) -> bytes:
    """Return pickles one after another, the first of them harmless."""
    return pickle.dumps({}) + pickle.dumps(payload)


def object_array(payload: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.array([payload], dtype=object), allow_pickle=True)
    return buffer.getvalue()


FORMATS: dict[str, tuple[str, Callable[[object], bytes]]] = {
    "zip archive": (".pth", zipped),
    "file of older versions": (".pt", unzipped),
    "zip archive, pickle replaced": (".pth", swapped_pickle),
    "tar archive of the oldest versions": (".pt", tarred),
    "bare pickle": (".th", pickle.dumps),
    "arrays of objects": (".npz", object_array),
    "bare pickle for arrays": (".npz", pickle.dumps),
    "bare pickle for safetensors": (".safetensors", pickle.dumps),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("trap", [Trap, Evaluated])
def test_a_hostile_state_dict_is_refused_and_not_run(tmp_path, mark, fault, form, trap):
    suffix, write = FORMATS[form]
    payload = {"w": torch.ones(3, 4) if suffix != ".npz" else 1, "x": trap(mark)}
    path = tmp_path / f"net{suffix}"
    path.write_bytes(write(payload))
    if suffix == ".npz":
        assert springs(mark, lambda: dict(np.load(path, allow_pickle=True)))
    elif form.startswith("bare"):
        assert springs(mark, lambda: pickle.loads(path.read_bytes()))
    elif not form.startswith("tar"):  # torch no longer unpacks those; see below
        assert springs(mark, lambda: torch.load(path, weights_only=False))
    for read in (weights.matrices, lambda path: weights.fit_folder(path.parent, progress=False)):
        with pytest.raises(ValueError, match=path.name) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert not mark.exists()
    fault(kind="hostile file", target="state dict", outcome="refused, its program did not run")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_hostile_files_of_published_networks_are_refused_and_not_run(
    tmp_path, mark, fault, monkeypatch
):
    content = zipped({"0.weight": torch.ones(3, 3, 1, 1), "x": Trap(mark)})
    for name in ("vgg_normalised_conv1_1.pth", "feature_invertor_conv1_1.pth"):
        (tmp_path / name).write_bytes(content)
    for read in (stages.vgg19_stages, stages.inverter):
        with pytest.raises(ValueError, match="is no file of plain tensors"):
            read(1, tmp_path)
    # Its name states the checksum that it has: whoever made the file made the name.
    digest = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setattr(weights, "_address", lambda name: f"https://host/vgg16-{digest}.pth")
    monkeypatch.setenv("MFLIB_DATA", str(tmp_path))
    (tmp_path / f"vgg16-{digest}.pth").write_bytes(content)
    with pytest.raises(ValueError, match="is no file of plain tensors"):
        stages.vgg16()
    assert not mark.exists()
    fault(
        kind="hostile file", target="state dict", times=3,
        outcome="refused, its program did not run",
    )  # fmt: skip


def test_one_flipped_byte_of_a_state_dict_is_named(tmp_path, fault, counts):
    path = tmp_path / "net.pth"
    state = {"a.weight": torch.arange(2000.0).reshape(40, 50), "a.bias": torch.ones(40)}
    good = zipped(state)
    path.write_bytes(good)
    (want,) = weights.matrices(path)
    rng = np.random.default_rng(0)
    said: list[str] = []
    for place in rng.choice(len(good), counts.flips, replace=False):
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            (found,) = weights.matrices(path)
        except (ValueError, data.DataDamaged) as refused:
            said.append(str(refused))
        else:  # in what pads the parts of the archive, or states their dates
            assert found.layer == want.layer
            assert np.array_equal(found.entries, want.entries)
    assert all("net.pth is " in each and "\n" not in each for each in said)
    assert len(said) > counts.flips / 2
    fault(kind="one byte flipped", target="state dict", times=len(said), outcome="named, refused")


# --- data sets ------------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """Return what writes a set in the layout of CIFAR-10, and takes its checksums for published."""
    data.import_torchvision()
    from torchvision import datasets

    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MFLIB_DATA", str(tmp_path))
    folder = tmp_path / datasets.CIFAR10.base_folder
    folder.mkdir()

    def write(**contents: bytes) -> list[Path]:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        listed = [[name, hashlib.md5(content).hexdigest()] for name, content in contents.items()]
        monkeypatch.setattr(datasets.CIFAR10, "train_list", listed[:1])
        monkeypatch.setattr(datasets.CIFAR10, "test_list", listed[1:])
        return [folder / name for name in contents]

    return write


def batch(*, also: object = None) -> bytes:
    pixels = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    return pickle.dumps({"data": pixels, "labels": [0, 1], "batch_label": also}, protocol=4)


@pytest.mark.parametrize("trap", [Trap, Evaluated])
def test_a_hostile_batch_of_cifar10_is_refused_and_not_run(cifar, mark, fault, trap):
    from torchvision import datasets

    evil = batch(also=trap(mark))
    assert springs(mark, lambda: pickle.loads(evil))
    first, _ = cifar(data_batch_1=batch(), test_batch=batch())
    assert data.load("cifar10").x_train.shape == (2, 3072)

    # With a wrong checksum it is not even looked into, with the right one nothing in it is called.
    first.write_bytes(evil)
    with pytest.raises(data.DataDamaged, match="data_batch_1 is damaged"):
        data.load("cifar10")
    cifar(data_batch_1=evil, test_batch=batch())
    with pytest.raises(data.DataDamaged, match="data_batch_1 is no batch of CIFAR-10") as caught:
        data.load("cifar10")
    assert "\n" not in str(caught.value)
    assert not mark.exists()

    # torchvision's own list of names is a pickle too, and torchvision itself runs it.
    cifar(data_batch_1=batch(), test_batch=batch())
    meta = first.with_name("batches.meta")
    meta.write_bytes(pickle.dumps({"label_names": trap(mark)}))
    md5 = hashlib.md5(meta.read_bytes()).hexdigest()
    stated = {"filename": meta.name, "key": "label_names", "md5": md5}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.CIFAR10, "meta", stated)
        assert springs(mark, lambda: datasets.CIFAR10(first.parents[1]))
        assert data.load("cifar10").x_train.shape == (2, 3072)
    assert not mark.exists()
    outcome = "refused, its program did not run"
    fault(kind="hostile file", target="data file", times=3, outcome=outcome)


def test_a_data_file_swapped_after_its_check_is_not_used(cifar, mark, fault, monkeypatch):
    files = cifar(data_batch_1=batch(), test_batch=batch())
    want = data.load("cifar10").fingerprint()
    md5 = hashlib.md5

    def swap_when_checked(content: bytes, **options: Any) -> Any:
        for file in files:
            file.write_bytes(batch(also=Trap(mark)))
        return md5(content, **options)

    good = [file.read_bytes() for file in files]
    read_bytes = Path.read_bytes
    contents = dict(zip(files, good, strict=True))
    # Each file is good when it is read, and hostile from the moment its checksum is taken.
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: contents.pop(path, None) or read_bytes(path)
    )
    monkeypatch.setattr(hashlib, "md5", swap_when_checked)
    assert data.load("cifar10").fingerprint() == want
    assert not mark.exists()
    fault(kind="swapped after its check", target="data file", outcome="what was checked is used")


# --- shards, results, settings, pictures ----------------------------------------------------------


def hostile_parquet(mark: Path) -> bytes:
    """Return a table with a column of the kind that versions of pyarrow before 14.0.1 unpickled."""
    kind = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Trap(mark)),
    }
    schema = pa.schema([pa.field("x", pa.int64(), metadata=kind)])
    schema = schema.with_metadata({b"pandas": pickle.dumps(Trap(mark)), b"PANDAS_ATTRS": b"{}"})
    buffer = io.BytesIO()
    pq.write_table(pa.table([pa.array([1, 2, 3])], schema=schema), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_a_hostile_shard_with_right_checksums_is_computed_again_and_not_run(
    tmp_path, mark, fault, kind
):
    store, key = Store(tmp_path / "shards"), {"steps": 1}
    evil = hostile_parquet(mark) if kind == "parquet" else object_array(Trap(mark))
    if kind == "npz":
        assert springs(mark, lambda: dict(np.load(io.BytesIO(evil), allow_pickle=True)))

    def compute() -> pd.DataFrame:
        return pd.DataFrame({"x": [4, 5]})

    store.fetch(key, compute)
    record = store.record(key)
    digest = hashlib.sha256(evil).hexdigest()
    record |= {"kind": kind, "table": f"evil.{kind}", "sha256": digest}
    record["record_sha256"] = hashlib.sha256(canonical(record).encode()).hexdigest()
    store.record_path(key).write_text(json.dumps(record))
    store.record_path(key).with_name(f"evil.{kind}").write_bytes(evil)
    with pytest.warns(RuntimeWarning, match=rf"evil\.{kind}.*computing it again"):
        found = store.fetch(key, compute)
    assert list(found["x"]) == [4, 5]
    assert not mark.exists()
    outcome = "named, computed again, its program did not run"
    fault(kind="hostile file", target="shard", outcome=outcome)


def test_a_hostile_result_is_refused_and_not_run(tmp_path, mark, fault, monkeypatch):
    monkeypatch.setenv("MFLIB_ROOT", str(tmp_path))
    recorded.write(
        tmp_path / "results" / "grid.csv", b"x\n1\n", command="c", code="", seconds=0,
        beside={"grid.npz": object_array(Trap(mark))},
    )  # fmt: skip
    with pytest.raises(recorded.Damaged, match=r"results/grid\.npz.*plain arrays") as caught:
        recorded.arrays("grid.npz")
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    outcome = "refused, its program did not run"
    fault(kind="hostile file", target="recorded result", outcome=outcome)


def test_a_hostile_profile_is_refused_and_not_run(tmp_path, mark, fault, monkeypatch):
    import yaml

    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    monkeypatch.setenv("MFLIB_ROOT", str(tmp_path))
    profile = tmp_path / "notebooks" / "profiles" / "quick.yaml"
    profile.write_text(f"alpha: !!python/object/apply:os.system [\"touch '{mark}'\"]\n")
    assert springs(mark, lambda: yaml.unsafe_load(profile.read_text()))
    with pytest.raises(ValueError, match=r"quick\.yaml cannot be read") as caught:
        notebooks.profile("quick", "alpha")
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    fault(kind="hostile file", target="profile", outcome="refused, its program did not run")


def test_a_picture_that_is_a_program_is_refused_and_not_run(tmp_path, fault, monkeypatch):
    """PostScript is given to Ghostscript by the library that reads pictures."""
    from PIL import EpsImagePlugin, Image

    picture = tmp_path / "picture.png"
    picture.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    called: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    monkeypatch.setattr(subprocess, "check_call", lambda *words, **_: called.append(words))
    with contextlib.suppress(Exception):
        Image.open(picture).convert("RGB")
    assert called
    called.clear()
    with pytest.raises(ValueError, match=r"picture\.png.*must be") as caught:
        stages.photograph(picture)
    assert "\n" not in str(caught.value)
    assert called == []
    bomb = "iVBORw0KGgoAAAANSUhEUgAA//8AAP//CAYAAAAA"  # a size of 65535 × 65535 and nothing else
    picture.write_bytes(base64.b64decode(bomb))
    with pytest.raises(ValueError, match=r"picture\.png.*must be"):
        stages.photograph(picture)
    fault(kind="hostile file", target="picture", times=2, outcome="refused")
