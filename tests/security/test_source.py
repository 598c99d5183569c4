"""What the source must not do anywhere: run a shell, text as code or a pickle, or parse without a limit."""

import ast
from pathlib import Path

import pytest

import seglab

ROOT = Path(seglab.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnl", "pty.spawn",
    "subprocess.getoutput", "subprocess.getstatusoutput", "subprocess.Popen", "subprocess.call",
    "subprocess.check_output",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open", "joblib.load", "yaml.load",
    "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "onnx.load", "tempfile.mktemp",
    "shutil.unpack_archive", "ssl._create_unverified_context", "ctypes.CDLL", "importlib.util.spec_from_file_location",
    "random.seed", "np.load", "numpy.load", "loadmat",
}  # fmt: skip
ALLOWED = {
    ("allocator.py", "ctypes.CDLL"),
    ("device.py", "ctypes.CDLL"),
    ("promote/swap.py", "ctypes.CDLL"),  # libc and CUDA
}
PARSERS = {"json.load", "json.loads", "tomllib.load", "tomllib.loads"}
PARSE = {
    "notation.py": 2,  # where the limits are
    "data/json_lists.py": 1,  # whose depth is checked beside it
    "data/annotation_index.py": 1,  # what json_lists has checked
    "data/writer.py": 1, "data/manifest.py": 1, "tasks.py": 1,  # of json.dumps, in the same line
    "inference/gathering.py": 1,  # whose checksum was compared
    "doctor/probes.py": 1, "training/distributed.py": 1,  # from processes of our own
}  # fmt: skip


def name_of(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([*([node.id] if isinstance(node, ast.Name) else ["?"]), *reversed(parts)])


def calls(tree):
    return [(name_of(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.fixture(scope="module")
def called():
    return [
        (path.relative_to(ROOT).as_posix(), name, node)
        for path in FILES
        for name, node in calls(ast.parse(path.read_text("utf-8")))
    ]


def test_nothing_runs_text_or_a_shell_or_a_pickle(called):
    assert len(FILES) > 200
    found = {(file, name) for file, name, _ in called if name in CALLS}
    assert found == ALLOWED
    for file, name, node in called:
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        shell = named.get("shell")
        assert shell is None or (isinstance(shell, ast.Constant) and shell.value is False), (file, name)
        assert not (isinstance(named.get("allow_pickle"), ast.Constant) and named["allow_pickle"].value), (file, name)
        if name == "torch.load":
            assert named["weights_only"].value is True, file
        if name.startswith("subprocess.run"):
            assert file == "doctor/probes.py"


def test_every_text_of_somebody_else_is_parsed_within_limits(called):
    found = {}
    for file, name, _ in called:
        if name in PARSERS:
            found[file] = found.get(file, 0) + 1
    assert found == PARSE


@pytest.mark.parametrize(
    "text", ["import os\nos.system('x')", "eval('x')", "import pickle\npickle.load(f)", "np.load(f)"]
)
def test_the_search_finds_what_it_looks_for(text):
    assert {name for name, _ in calls(ast.parse(text))} & CALLS
