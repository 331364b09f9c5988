"""The page about serving and the files beside it: commands run, paths and metrics exist, options parse."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from captioner.cli import VERBS, _parser, serve
from captioner.cli.arguments import parsed
from captioner.serving.connections import listen
from captioner.serving.metrics import Metrics
from captioner.serving.server import Server
from captioner.serving.service import Service
from captioner.serving.settings import Limits, Settings
from captioner.serving.tasks import About, Photo, Reply, Task

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "docs" / "serving"
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
CURLS = [line for line in LINES if line.startswith("curl")]


class Toy:
    """A runner that gives every photo one caption."""

    most = places = 1

    def start(self) -> About:
        return About(generation={"max_tokens": 32}, labels=True, search=True)

    def run(self, task: Task, photos: list[Photo], patience: float) -> Reply:
        said = {"caption": "a toy", "score": -1.0, "confidence": 0.5, "words": [], "labels": [["toy", 0.9]]}
        return Reply(records=[dict(said) for _ in photos])

    def stop(self) -> None:
        pass

    end = stop


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    service = Service(Settings(), Toy())
    running = Server(service)
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    running.should_exit = True
    thread.join(20)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("line", CURLS)
def test_each_line_of_the_page_runs(server: str, line: str) -> None:
    command = line.replace("curl ", "curl -sS --fail-with-body --noproxy '*' --retry 3 ", 1)
    command = command.replace("localhost:8000", server)
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "a toy" in done.stdout or "captioner" in json.dumps(json.loads(done.stdout))


def test_every_protocol_has_a_line() -> None:
    paths = ("/caption", "/v1/models", "/v1/chat/completions", "/api/generate", "/api/v1/vision", "/models/", "/sdapi/")
    assert not [path for path in paths if not any(path in line for line in CURLS)]


def test_every_path_is_in_the_table(server: str) -> None:
    import httpx

    document = httpx.get(f"http://{server}/openapi.json", trust_env=False).json()
    offered = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    listed = set(re.findall(r"`((?:GET|POST) /[^`]*)`", PAGE))
    assert offered - {"GET /v1/models/{name}"} == listed


def test_the_commands_parse() -> None:
    calls = [line.split("  #")[0] for line in LINES if "captioner serve" in line]
    assert len(calls) >= 3
    for call in calls:
        arguments = shlex.split(call[call.index("captioner ") :])[1:]
        assert arguments[0] in VERBS
        assert _parser().parse_args(arguments).verb == "serve"


def test_the_defaults_on_the_page() -> None:
    options = parsed(serve.Options, vars(_parser().parse_args(["serve"])))
    bounds = options.bounds
    for flag, value in {
        "max-body": f"{bounds.max_body} MiB",
        "max-photos": bounds.max_photos,
        "max-megapixels": bounds.max_megapixels,
        "queue": bounds.queue,
        "timeout": f"{bounds.timeout} s",
    }.items():
        assert re.search(rf"\| `--{flag}` \| {value}\b", PAGE), flag
    limits = Limits()
    assert f"| | {limits.beams} | 400 |" in PAGE
    assert f"| | {limits.required}; {limits.phrases}; {limits.text} | 400 |" in PAGE
    assert f"| | {limits.header_time:.0f} s, {limits.body_time:.0f} s, {limits.reading_time:.0f} s |" in PAGE
    assert f"at most `--batch` photos ({bounds.batch})" in PAGE
    assert f"`--wait` milliseconds ({bounds.wait})" in PAGE
    assert f"`--drain` seconds ({bounds.drain})" in PAGE


def metrics_of(text: str) -> set[str]:
    found = re.findall(r"\bcaptioner_\w+", text)
    return {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in found}


def test_dashboard_alerts_and_page_name_metrics_that_exist() -> None:
    own = Metrics()
    for kind in ("busy", "photo", "model", "late"):
        own.error(kind)
    own.request("own", 200, 0.1)
    known = {family.name for family in own.registry.collect()}
    for name in ("grafana.json", "alerts.yml"):
        used = metrics_of((FILES / name).read_text(encoding="utf-8"))
        assert used
        assert used <= known, name
    assert metrics_of(PAGE) == known, "the page has every metric"


def test_the_dashboard_and_the_alerts_are_well_formed() -> None:
    dashboard = json.loads((FILES / "grafana.json").read_text(encoding="utf-8"))
    assert len(dashboard["panels"]) >= 10
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
    assert len(places) == len(dashboard["panels"])
    (group,) = yaml.safe_load((FILES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile."""
    text = (FILES / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def test_the_dockerfile() -> None:
    steps = dockerfile()
    assert steps[0][0] == "FROM"
    assert {"COPY", "RUN", "USER", "HEALTHCHECK", "CMD"} <= {name for name, _ in steps}
    for name, rest in steps:
        if name == "COPY":
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
        if name == "RUN":
            assert subprocess.run(["sh", "-n", "-c", rest], check=False).returncode == 0
    (command,) = [json.loads(rest) for name, rest in steps if name == "CMD"]
    assert _parser().parse_args(command[1:]).host == "0.0.0.0"
    build = next(line for line in LINES if line.startswith("docker build"))
    assert "-f docs/serving/Dockerfile" in build


def test_the_health_check_of_the_dockerfile(server: str) -> None:
    (rest,) = [rest for name, rest in dockerfile() if name == "HEALTHCHECK"]
    command = json.loads(rest[rest.index("[") :])
    program = command[-1].replace("127.0.0.1:8000", server)
    environ = {**os.environ, "no_proxy": "127.0.0.1"}
    assert subprocess.run([sys.executable, "-c", program], env=environ, check=False).returncode == 0
    broken = program.replace("/readyz", "/none")
    done = subprocess.run([sys.executable, "-c", broken], env=environ, check=False, capture_output=True)
    assert done.returncode == 1


def test_compose_and_the_settings_of_photoprism(server: str) -> None:
    import httpx

    compose: Any = yaml.safe_load((FILES / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["captioner"]
    options = parsed(serve.Options, vars(_parser().parse_args(service["command"][1:])))
    assert serve.KEY in service["environment"]
    assert int(service["stop_grace_period"].rstrip("s")) > options.bounds.drain
    assert (FILES / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).exists()
    (model,) = yaml.safe_load((FILES / "vision.yml").read_text(encoding="utf-8"))["Models"]
    address = model["Service"]["Uri"]
    assert address.startswith(f"http://captioner:{options.port}/")
    path = address.partition(str(options.port))[2]
    answer = httpx.post(f"http://{server}{path}", json={"id": "1", "images": ["AAAA"]}, trust_env=False)
    assert answer.json()["result"]["caption"]["text"] == "a toy"
    assert model["Service"]["Method"] == "POST"
    assert (model["Service"]["RequestFormat"], model["Service"]["ResponseFormat"]) == ("vision", "vision")
