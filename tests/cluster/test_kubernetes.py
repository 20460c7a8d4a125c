"""What a sweep asks of Kubernetes: an API server that records it, and does what the jobs say.

There is no cluster here. The server takes the Secrets and Jobs that Snakemake's plugin posts, runs
each container's command in an empty folder with the container's environment and no other, and
answers with its exit code. Images and volumes are only looked at.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pipeline.conftest import Project

from .conftest import require

# Those of an image that knows nothing of the project.
OF_THE_IMAGE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


class Server(ThreadingHTTPServer):
    """The part of Kubernetes' API that Snakemake's plugin calls."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.secrets: dict[str, dict[str, str]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, int] = {}
        self.deleted: list[str] = []
        self.said = ""

    def run(self, name: str) -> None:
        """Do what the container of a job says."""
        (container,) = self.jobs[name]["spec"]["template"]["spec"]["containers"]
        environment = dict(OF_THE_IMAGE)
        for variable in container["env"]:
            key = variable["valueFrom"]["secretKeyRef"]
            content = base64.b64decode(self.secrets[key["name"]][key["key"]])
            environment[variable["name"]] = content.decode()
        with tempfile.TemporaryDirectory() as workdir:
            done = subprocess.run(
                [*container["command"], *container["args"]], cwd=workdir, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
        self.said += done.stdout
        self.codes[name] = done.returncode


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, content: dict[str, Any], code: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def content(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")

    def do_POST(self) -> None:
        posted = self.content()
        name = posted["metadata"]["name"]
        if self.path == "/api/v1/namespaces/lab/secrets":
            self.server.secrets[name] = posted["data"]
        elif self.path == "/apis/batch/v1/namespaces/lab/jobs":
            self.server.jobs[name] = posted
            threading.Thread(target=self.server.run, args=(name,)).start()
        else:
            self.answer({"kind": "Status", "code": 404}, 404)
            return
        self.answer(posted, 201)

    def do_GET(self) -> None:
        codes = self.server.codes
        if found := re.fullmatch(r"/apis/batch/v1/namespaces/lab/jobs/([^/]+)/status", self.path):
            counts = {None: {"active": 1}, 0: {"succeeded": 1}}
            status = counts.get(codes.get(found[1]), {"failed": 1})
            self.answer({"kind": "Job", "metadata": {"name": found[1]}, "status": status})
        elif self.path.startswith("/api/v1/namespaces/lab/pods?labelSelector=job-name%3D"):
            self.answer({"kind": "PodList", "metadata": {}, "items": []})
        else:
            self.answer({"kind": "Status", "code": 404}, 404)

    def do_DELETE(self) -> None:
        self.content()
        self.server.deleted.append(self.path.split("?")[0].split("/")[-1])
        self.answer({"kind": "Status", "status": "Success"})


@pytest.fixture
def kubernetes() -> Iterator[Server]:
    """Return an API server that runs."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_jobs_on_kubernetes_say_what_they_need_and_their_commands_do_the_work(
    kubernetes: Server, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("kubernetes", "rsync")
    port = kubernetes.server_address[1]
    configuration = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(configuration))
    # The plugin has every job install a package that our environment has already.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "bin" / "pip").chmod(0o755)
    search = (tmp_path / "bin", Path(project.python).parent, "/usr/bin", "/bin")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("PATH", ":".join(map(str, search)))
    monkeypatch.setenv("MFLIB_RUNS", str(project.root / "elsewhere"))
    project.edit(
        "notebooks/alpha.py",
        "wait: float",
        'device: str = "cpu"  # where it runs {cpu, auto}\nwait: float',
    )
    project.edit(
        "notebooks/resources.yaml",
        "quick: {minutes: 5, memory_gb: 1, cores: 1, gpus: 1}",
        "quick: {minutes: 5, memory_gb: 1.5, cores: 2, gpus: 1}",
    )
    command = ("sweep", "alpha", "--grid", "device=cpu,auto", "--executor", "kubernetes")

    code, said = project.mflib(*command)
    assert code == 2
    assert said.count("\n") == 1
    assert "--container-image IMAGE" in said
    assert not (project.root / "elsewhere").exists()

    code, said = project.mflib(
        *command, "--snakemake",
        "--container-image lab/mflib:1 --kubernetes-namespace lab --seconds-between-status-checks 1"
        f" --kubernetes-persistent-volumes claim:{tmp_path}",
    )  # fmt: skip
    assert code == 0, said + kubernetes.said
    (file,) = (project.root / "elsewhere").rglob("table.parquet")
    frame = pd.read_parquet(file)
    assert list(frame["outcome"]) == ["finished"] * 2
    assert project.executed() == ["alpha"] * 2

    assert len(kubernetes.jobs) == 2
    by_gpu = {}
    for job in kubernetes.jobs.values():
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "lab/mflib:1"
        assert job["spec"]["backoffLimit"] == 0  # trying again is Snakemake's
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["claim"] == str(tmp_path)
        claims = [v["persistentVolumeClaim"] for v in pod["volumes"] if v["name"] == "claim"]
        assert claims == [{"claimName": "claim"}]
        named = {variable["name"] for variable in container["env"]}
        assert {"PATH", "MFLIB_ROOT", "MFLIB_RUNS"} <= named
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        assert (limits["cpu"], limits["memory"]) == ("2000m", "1500M")
        # A GPU must be limited as it is requested.
        assert limits["nvidia.com/gpu"] == requests["nvidia.com/gpu"]
        by_gpu[requests["nvidia.com/gpu"]] = container["args"][1]
    assert set(by_gpu) == {"0", "1"}
    (of_gpu,) = frame.loc[frame["parameter device"] == "auto", "point"]
    assert of_gpu in by_gpu["1"]
    # Nothing stays behind in the cluster.
    assert {*kubernetes.jobs, *kubernetes.secrets} <= set(kubernetes.deleted)
