"""``mflib run`` and its relatives, as a user meets them: exit codes, what is said, what is left."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project, is_running, wait_for


def code_cells(file: Path) -> list[dict[str, Any]]:
    cells = json.loads(file.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def printed(file: Path) -> str:
    outputs = [output for cell in code_cells(file) for output in cell["outputs"]]
    return "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")


def test_a_run_shows_the_given_values_in_the_cell_that_states_them(project: Project) -> None:
    code, said = project.mflib(
        *("run", "alpha", "-p", "sigma_b2=0.1", "-p", "depths=1,2", "-p", "limit=inf"),
        *("-o", "my.ipynb"),
    )
    assert code == 0, said
    out = project.root / "my.ipynb"
    assert printed(out) == "0 0.1 tanh [1, 2] inf 2\n"
    stated = "".join(code_cells(out)[0]["source"])
    assert "sigma_b2: float = 0.1  # bias variance [0, 4]" in stated
    assert len(code_cells(out)) == 5
    record = json.loads(out.read_text())["metadata"]["mflib"]
    assert record["parameters"]["depths"] == [1, 2]
    assert record["profile"] == "quick"
    assert not (project.root / "notebooks" / "alpha.ipynb").exists()


def test_equal_runs_give_equal_notebooks_but_for_the_time_they_took(project: Project) -> None:
    texts = []
    for name in ("one.ipynb", "two.ipynb"):
        assert project.mflib("run", "alpha", "-o", name)[0] == 0
        notebook = json.loads((project.root / name).read_text())
        assert notebook["metadata"]["mflib"].pop("seconds") > 0
        notebook["metadata"]["mflib"].pop("content_sha256")
        texts.append(notebook)
    assert texts[0] == texts[1]


def test_a_profile_comes_over_the_defaults_and_the_command_line_over_both(project: Project) -> None:
    profiles = project.root / "notebooks" / "profiles"
    (profiles / "paper.yaml").write_text("alpha:\n  sigma_b2: 1e-3\n  seed: 7\n")
    run = ("run", "alpha", "--profile", "paper", "-p", "seed=8", "-o", "x.ipynb")
    assert project.mflib(*run)[0] == 0
    assert printed(project.root / "x.ipynb") == "8 0.001 tanh [5, 10] None 2\n"


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("--profile", "paper", "-p", "activation=erf", "-p", "depths=3,1"),
        ("-p", "limit=None", "-p", "note=it's 5 $"),
    ],
)
def test_a_notebook_is_told_the_command_that_makes_it_again(
    project: Project, given: tuple[str, ...]
) -> None:
    project.edit(
        "notebooks/alpha.py",
        "limit: float | None = None  #",
        'note: str = ""  # any text\nlimit: float | None = 2.0  #',
    )
    project.edit("notebooks/alpha.py", "print(seed,", 'print(os.environ["MFLIB_RUN"])\nprint(seed,')
    assert project.mflib("run", "alpha", *given, "-o", "x.ipynb")[0] == 0
    told, values = printed(project.root / "x.ipynb").splitlines()
    assert shlex.split(told)[:3] == ["mflib", "run", "alpha"]
    assert sorted(shlex.split(told)[3:]) == sorted(given)
    assert project.mflib(*shlex.split(told)[1:], "-o", "x.ipynb")[0] == 0
    assert printed(project.root / "x.ipynb").splitlines() == [told, values]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "alpah"], "did you mean 'alpha'"),
        (["run", "alpha", "-p", "sigma_b=1"], "did you mean 'sigma_b2'"),
        (["run", "alpha", "-p", "sigma_b2=9"], "sigma_b2 = 9.0 is out of range"),
        (["run", "alpha", "-p", "seed=1.5"], "seed = '1.5' is not an int"),
        (["run", "alpha", "-p", "seed"], "no name=value"),
        (["run", "alpha", "-p", "seed=1", "-p", "seed=2"], "given twice"),
        (["run", "alpha", "--profile", "papr"], "did you mean 'paper'"),
        (["run", "alpha", "-o", "no/such/x.ipynb"], "does not exist"),
        (["run", "alpha", "-o", "notebooks"], "is a folder"),
        (["run", "alpha", "-o", "notebooks/alpha.py"], "does not end in .ipynb"),
        pytest.param(
            ["run", "alpha", "-o", "/proc/x.ipynb"],  # closed even to the superuser
            "cannot write in /proc",
            marks=pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here"),
        ),
        (["run", "alpha", "--fast"], "No such option"),
        (["params", "gamma"], "no notebook 'gamma'"),
        (["convert", "alpha", "-o", "no/such/x.ipynb"], "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_no_trace(
    project: Project, arguments: list[str], sentence: str
) -> None:
    before = project.files()
    code, said = project.mflib(*arguments)
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said
    assert project.files() == before
    assert project.executed() == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("depths=9,5", "depths = [9, 5] does not rise"),
        ("depths=5", "depths = [5] is too short: give a list of int, rising, at least 2 long"),
        ("depths=", "depths = [] is empty"),
        ("second=erf", "second = 'erf' is the value of activation too"),
        ("activation=tanh", "second = 'tanh' is the value of activation too"),
    ],
)
def test_what_breaks_a_stated_rule_is_refused_before_any_work(
    project: Project, given: str, sentence: str
) -> None:
    project.edit("notebooks/alpha.py", "networks, each", "networks, rising, at least 2, each")
    project.edit(
        "notebooks/alpha.py",
        'activation: str = "tanh"',
        'second: str = "tanh"  # another, not activation {tanh, erf}\nactivation: str = "erf"',
    )
    before = project.files()
    code, said = project.mflib("run", "alpha", "-p", given)
    assert code == 2
    assert sentence in said
    assert said.count("\n") == 1
    assert project.files() == before
    row = next(r for r in project.mflib("params", "alpha")[1].splitlines() if r.startswith("depth"))
    assert "rising, at least 2, each [1, 1000]" in row


def test_cuda_is_refused_where_there_is_none(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a GPU, where there is one, is hidden
    project.edit(
        "notebooks/alpha.py",
        "limit: float",
        'device: str = "auto"  # where {auto, cpu, cuda}\nlimit: float',
    )
    before = project.files()
    code, said = project.mflib("run", "alpha", "-p", "device=cuda")
    assert code == 2
    assert "torch finds no GPU" in said
    assert project.files() == before
    assert project.executed() == []


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ("alpha:\n  sigma_b: 1\n", "profile quick, notebook alpha: no parameter 'sigma_b'"),
        ("alpha:\n  depths: 5\n", "depths = 5 is an int"),
        ("alpha:\n  sigma_b2: 1e1\n", "sigma_b2 = 10.0 is out of range"),
        ("alpha:\n  seed: 1e3\n", "seed = 1000.0 is a float"),
        ("alpah: {}\n", "has no block 'alpha' (it has alpah)"),
        ("alpha: {}\nalpha: {}\n", "given twice"),
        ("alpha: [\n", "cannot be read"),
        ("", "has no block"),
    ],
)
def test_a_bad_profile_is_refused_as_well(project: Project, profile: str, sentence: str) -> None:
    (project.root / "notebooks" / "profiles" / "quick.yaml").write_text(profile)
    before = project.files()
    code, said = project.mflib("run", "alpha")
    assert code == 2, said
    assert sentence in said
    assert project.files() == before


def test_a_failing_cell_is_shown_and_what_came_before_it_is_kept(project: Project) -> None:
    out = project.root / "my.ipynb"
    out.write_text("what was there before")
    code, said = project.mflib("run", "alpha", "-p", "broken=true", "-o", "my.ipynb")
    assert code == 1
    assert 'raise RuntimeError("broken on purpose")' in said
    assert "RuntimeError: broken on purpose" in said
    kept = project.root / "my.failed.ipynb"
    assert str(kept) in said
    assert printed(kept).startswith("0 0.05")
    assert "digest" not in json.loads(kept.read_text())["metadata"]["mflib"]
    assert out.read_text() == "what was there before"
    assert project.mflib("run", "alpha", "-o", "my.ipynb")[0] == 0
    assert not kept.exists()


def test_a_process_that_dies_is_said_to_have_died(project: Project) -> None:
    project.edit(
        "notebooks/alpha.py", "if broken:", "if True:\n    os.kill(os.getpid(), 9)\nif broken:"
    )
    code, said = project.mflib("run", "alpha", "-o", "my.ipynb")
    assert code == 1
    assert "the notebook's process died" in said
    assert "Traceback" not in said
    assert printed(project.root / "my.failed.ipynb").startswith("0 0.05")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_neither_a_file_nor_a_process(
    project: Project, number: signal.Signals
) -> None:
    before = set(project.files())
    run = project.start("mflib.cli", "run", "alpha", "-p", "wait=60", "-o", "my.ipynb")
    wait_for(project.trace.read_text)
    kernel = int(project.trace.read_text().split()[1])
    os.kill(run.pid, number)
    said, _ = run.communicate(timeout=30)
    wait_for(lambda: not is_running(kernel), 10)
    assert set(project.files()) == before
    assert "Traceback" not in said
    assert run.returncode == (-9 if number == signal.SIGKILL else 130)


def test_nobodys_kernels_or_start_up_files_come_into_a_chapter(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jupyter = tmp_path / "jupyter" / "kernels" / "python3"
    jupyter.mkdir(parents=True)
    other = {"argv": ["false"], "display_name": "Other", "language": "python"}
    (jupyter / "kernel.json").write_text(json.dumps(other))
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "x.py").write_text("print('from a start-up file')")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(startup / "x.py"))
    project.edit(
        "notebooks/alpha.py", "import os\n", "import os\nimport sys\nprint(sys.executable)\n"
    )
    code, said = project.mflib("run", "alpha", "-o", "my.ipynb")
    assert code == 0, said
    assert printed(project.root / "my.ipynb").startswith(f"{sys.executable}\n0 0.05 ")


def test_plain_papermill_runs_a_converted_chapter(project: Project) -> None:
    code, said = project.mflib("convert", "alpha", "-o", "plain.ipynb")
    assert code == 0, said
    code, said = project.call(
        "papermill", "plain.ipynb", "out.ipynb", "-p", "seed", "5", "-y", "{depths: [7]}"
    )
    assert code == 0, said
    assert printed(project.root / "out.ipynb") == "5 0.05 tanh [7] None 2\n"


def test_params_and_list_say_what_there_is(project: Project) -> None:
    code, said = project.mflib("params", "alpha")
    assert code == 0
    row = next(line for line in said.splitlines() if line.startswith("depths"))
    assert row.split(maxsplit=2)[:2] == ["depths", "list[int]"]
    assert "[5, 10]" in row
    assert "[1, 1000]" in row
    code, said = project.mflib("list")
    assert code == 0
    assert [line.strip().split(maxsplit=1) for line in said.splitlines()[1:]] == [
        ["alpha", "The alpha chapter"],
        ["beta", "The beta chapter"],
    ]


def test_check_names_device_versions_and_data() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mflib.cli", "check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for what in ("device", "torch", "NVIDIA driver", "cores", "memory", "digits", "mnist"):
        assert f"\n{what} " in done.stdout


def test_check_finds_a_data_set_only_where_all_its_files_are(tmp_path: Path) -> None:
    def says() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mflib.cli", "check"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "MFLIB_DATA": str(tmp_path), "MFLIB_CACHE": str(tmp_path / "cache")},
        )
        return next(line for line in done.stdout.splitlines() if line.startswith("mnist "))

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    assert f"not here (looked in {tmp_path}, " in says()
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"")
    assert says().split() == ["mnist", str(raw)]


def test_check_says_what_to_install_where_torch_cannot_use_the_gpu(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU here")
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'Some GPU, 1024 MiB, 1.0'\n")
    driver.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "mflib.cli", "check"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert "Some GPU, 1024 MiB, 1.0" in done.stdout
    assert "The driver shows a GPU that torch cannot use" in done.stdout


def test_the_command_line_answers_without_loading_what_computes() -> None:
    probe = (
        "import sys; from mflib import cli, notebooks; notebooks.names(); "
        "heavy = {'torch', 'scipy', 'papermill', 'jupytext', 'snakemake'} & set(sys.modules); "
        "sys.exit(' '.join(heavy) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
