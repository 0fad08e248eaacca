"""What the wheel brings, and what must not be there."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGES, ROOT, modules, name, tree


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the names in a freshly built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_adds_only_our_own_names(wheel: list[str]):
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "colreduce",
        "colreduce_service",
        "colreduce_indexer",
    }


def test_the_wheel_brings_the_sample_corpus(wheel: list[str]):
    sample = {name for name in wheel if name.startswith("colreduce/cli/sample/")}
    assert sample == {
        "colreduce/cli/sample/corpus.jsonl",
        "colreduce/cli/sample/queries.jsonl",
        "colreduce/cli/sample/qrels/test.tsv",
    }


def test_each_package_says_that_it_is_typed(wheel: list[str]):
    typed = {name for name in wheel if name.endswith("py.typed")}
    assert typed == {f"{package.name}/py.typed" for package in PACKAGES}


def test_the_wheel_brings_the_licence_and_no_bytecode(wheel: list[str]):
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)
    assert [name for name in wheel if name.endswith(".pyc") or "__pycache__" in name] == []


@pytest.mark.parametrize("folder", ["service", "indexer", "proto", "tests", "benchmarks"])
def test_folders_that_are_no_packages_hold_no_init(folder: str):
    # An __init__.py here would make `import proto` find this folder instead of a real package.
    assert not (ROOT / folder / "__init__.py").exists()


def test_every_name_that_ci_installs_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if pin.count("==") != 1 or "/" in pin or "+" in pin] == []
    assert [pin for pin in pins if pin.startswith("nvidia")] == []
    assert pins == sorted(pins, key=lambda pin: pin.partition("==")[0].lower().replace("_", "-"))


def test_every_requirement_has_a_pin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    installed = ("cpu", "fast", "demo", "dev")
    wanted = [*project["dependencies"], *(line for extra in installed for line in extras[extra])]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_normal(line.partition("==")[0]) for line in lines if "==" in line}
    assert {_normal(line.partition(">=")[0]) for line in wanted} - pinned == set()


def test_everything_that_is_imported_is_required():
    # What a development tool happens to bring along is missing in a user's environment.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    required = [one for name, ones in extras.items() if name != "dev" for one in ones]
    names = {_normal(line.partition(">=")[0]) for line in [*project["dependencies"], *required]}
    brought = packages_distributions()
    missing = {
        f"{name(path)} imports {top}"
        for path in modules()
        for top in _imported(path)
        if not names
        & {_normal(found) for found in [*brought.get(top, [top]), BROUGHT_ALONG.get(top, top)]}
    }
    assert missing == set()


def test_the_changelog_names_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    headings = [
        line
        for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("## ")
    ]
    assert headings[0].startswith("## [Unreleased]")
    assert version in headings[0] or f"## [{version}]" in headings[1]


def test_the_licence_is_the_whole_apache_licence():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert [number for number in range(1, 10) if f"\n   {number}. " not in text] == []
    assert "END OF TERMS AND CONDITIONS" in text


def test_no_committed_text_names_a_machine():
    suspects = ("/" + "work/", "/" + "tmp/v", "/" + "root/", "/" + "home/")
    found = [
        f"{path.relative_to(ROOT)}: {suspect}"
        for path in _texts()
        for suspect in suspects
        if suspect in path.read_text(encoding="utf-8")
    ]
    assert found == []


# Packages that cannot be missing where the one that requires them is there.
BROUGHT_ALONG = {
    "transformers": "sentence-transformers",
    "huggingface_hub": "sentence-transformers",
}


def _imported(path: Path) -> set[str]:
    """Return the top names of the foreign packages that a module imports anywhere."""
    ours = {package.name for package in PACKAGES}
    tops = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            tops.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            tops |= {alias.name.split(".")[0] for alias in node.names}
    return tops - ours - set(sys.stdlib_module_names)


def _texts() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    names = [name for name in done.stdout.split("\0") if name]
    endings = {".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".sh", ".yml", ".proto", ""}
    return [ROOT / n for n in names if Path(n).suffix in endings and (ROOT / n).is_file()]


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-").partition("[")[0]


def test_make_audit_looks_at_every_pin_and_at_nothing_else():
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    told = subprocess.run(
        [make, "--dry-run", "--always-make", "--no-print-directory", "audit", "VENV=venv",
         "PYTHON=python3"],
        check=True, capture_output=True, cwd=ROOT, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert [line.split()[:4] for line in told[:2]] == [
        ["python3", "-m", "venv", "venv/audit"],
        ["venv/audit/bin/python", "-m", "pip", "--disable-pip-version-check"],
    ]
    command, *options = told[-1].split()
    assert command == "venv/audit/bin/pip-audit"
    assert options[options.index("--requirement") + 1] == "constraints.txt"
    # Nothing is resolved or installed, and what cannot be looked up is a failure.
    assert {"--no-deps", "--disable-pip", "--strict"} <= set(options)
