"""Everything that writes goes through one module: read from the source, not promised."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEAM = "colreduce/store/fs.py"
PACKAGES = ("colreduce", "service/colreduce_service", "indexer/colreduce_indexer")

# Calls that change a disk, whatever they are called on.
NAMES = """
    write_text write_bytes rename replace unlink rmdir mkdir touch hardlink_to symlink_to link_to
    tofile save_file write_index rmtree copytree copyfile copy2 savez savez_compressed
    ftruncate truncate makedirs removedirs pwrite mkdtemp NamedTemporaryFile TemporaryDirectory
    mkstemp posix_fallocate
"""
METHODS = frozenset(NAMES.split())
MODULES = {"os": {"open", "write", "remove", "link", "fdopen"}, "np": {"save"}, "torch": {"save"}}
# `replace` of a string or a dataclass writes nothing, so it counts on paths and `os` only.
HARMLESS_RECEIVERS = frozenset({"dataclasses", "fs", "_fs"})
# Files for people that are no part of an index: a module here may write them, and says why.
WRITES_FOR_PEOPLE = {
    "colreduce/cli/demo.py": "removes the demo index it made before",
    "colreduce/cli/plan.py": "writes a recipe file",
    "colreduce/plan/built.py": "builds indexes to measure them, in folders that go again",
    "colreduce/train/mining.py": "builds an index to mine negatives, in a folder that goes",
    "colreduce/train/run.py": "keeps what a training was begun with beside its checkpoints",
    "colreduce/evaluate/embeddings.py": "keeps the embeddings of a collection between runs",
    "colreduce/evaluate/hub.py": "keeps public data sets between runs",
    "colreduce/evaluate/measure.py": "keeps exact scores beside the embeddings of a collection",
    "colreduce/evaluate/metrics.py": "writes TREC run files",
    "colreduce/evaluate/mteb_model.py": "makes a folder for the index that mteb asks",
    "colreduce/evaluate/outcomes.py": "keeps what was measured between runs",
    "colreduce/index/remote.py": "keeps a snapshot on its way to or from object storage",
    "colreduce/objects.py": "makes folders in object storage, where the kind has any",
    "colreduce/pages/page.py": "writes a report or an explanation",
    "service/colreduce_service/console/web.py": "makes a folder for a socket",
    "indexer/colreduce_indexer/rejects.py": "writes the records that were left out",
}


def sources():
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def writing_calls(tree):
    """Yield (line, what) for every call that can change a disk."""
    streams = _own_writers(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open" and _for_writing(node, 1):
            yield node.lineno, "open for writing"
        if not isinstance(function, ast.Attribute):
            continue
        receiver = function.value.id if isinstance(function.value, ast.Name) else ""
        if receiver in HARMLESS_RECEIVERS:
            continue
        if (
            function.attr == "open"
            and receiver not in MODULES
            and _for_writing(node, 0, known=True)
        ):
            yield node.lineno, "open for writing"
        elif function.attr == "replace" and (len(node.args) != 1 or node.keywords):
            continue  # str.replace(old, new), datetime.replace(...)
        elif (
            function.attr == "write_index"
            and {a.id for a in node.args[1:] if _is_name(a)} & streams
        ):
            continue  # into a stream of the store's
        elif function.attr in METHODS or function.attr in MODULES.get(receiver, ()):
            yield node.lineno, f"{receiver or '...'}.{function.attr}"


def _is_name(node):
    return isinstance(node, ast.Name)


def _own_writers(tree):
    """Name the variables that hold a FAISS writer which hands its bytes to a function of ours."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if isinstance(node.value.func, ast.Attribute)
        if node.value.func.attr == "PyCallbackIOWriter"
        for target in node.targets
        if _is_name(target)
    }


def _for_writing(call, position, known=False):
    """Say whether a mode lets it write; one that is not spelt out counts unless ``known``."""
    if any(keyword.arg == "fileobj" for keyword in call.keywords):
        return False  # writes into a stream that somebody else has opened
    modes = [k.value for k in call.keywords if k.arg == "mode"] + call.args[position : position + 1]
    return any(
        bool(set(mode.value) & set("wax+")) and set(mode.value) <= set("rwxabt+")
        if isinstance(mode, ast.Constant) and isinstance(mode.value, str)
        else not known
        for mode in modes
    )


@pytest.mark.parametrize(
    "line",
    [
        "open(p, 'w')",
        "open(p, mode='ab')",
        "p.open('r+b')",
        "p.write_bytes(b'')",
        "os.rename(a, b)",
        "p.replace(q)",
        "np.save(p, x)",
        "faiss.write_index(i, p)",
        "shutil.rmtree(p)",
        "os.open(p, 1)",
        "safetensors.numpy.save_file(x, p)",
        "torch.save(x, p)",
        "p.unlink()",
        "open(p, mode)",
    ],
)
def test_a_line_that_writes_is_recognised(line):
    assert list(writing_calls(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "w = faiss.PyCallbackIOWriter(f); faiss.write_index(i, w)",
        "open(p)",
        "open(p, 'rb')",
        "s.replace('a', 'b')",
        "fs.unlink(p)",
        "x.write(b'')",
    ],
)
def test_a_line_that_does_not_write_is_let_through(line):
    assert not list(writing_calls(ast.parse(line)))


def test_only_the_seam_changes_the_disk():
    assert len(list(sources())) > 20
    found = {}
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        calls = list(writing_calls(ast.parse(path.read_text())))
        if calls and name != SEAM and name not in WRITES_FOR_PEOPLE:
            found[name] = calls
    assert found == {}, "write through colreduce.store.fs, or say what the file is for"


def test_the_store_has_no_exception():
    assert not [name for name in WRITES_FOR_PEOPLE if name.startswith("colreduce/store/")]
    assert list(writing_calls(ast.parse((ROOT / SEAM).read_text())))


def test_modules_listed_as_writing_for_people_exist_and_write():
    for name in WRITES_FOR_PEOPLE:
        assert list(writing_calls(ast.parse((ROOT / name).read_text()))), f"{name}: take it off"
