"""Nothing but ``seglab fetch`` uses the network, in processes of their own as well."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import seglab
from tests.security.conftest import no_network

FORBIDDEN = """
import socket, sys
def refuse(*arguments, **_):
    sys.stderr.write("NETWORK %r\\n" % (arguments[-1:],))
    raise PermissionError("no network")
for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, refuse)
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, refuse)
"""


def test_the_guard_bites():
    with no_network() as tried:
        with pytest.raises(PermissionError), socket.socket() as connection:
            connection.connect(("127.0.0.1", 9))
        with pytest.raises(PermissionError):
            socket.getaddrinfo("example.org", 80)
        assert len(tried) == 2


@pytest.fixture
def alone(tmp_path):
    """Run a program without a network, in a home of its own."""
    (tmp_path / "sitecustomize.py").write_text(FORBIDDEN)
    home = tmp_path / "home"
    home.mkdir()
    own = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME"), str(home))
    path = os.pathsep.join([str(tmp_path), str(Path(seglab.__file__).parents[1])])
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], env={**kept, **own, "PYTHONPATH": path}, capture_output=True, text=True,
            cwd=tmp_path, timeout=120,
        )  # fmt: skip
        assert "NETWORK" not in done.stderr, done.stderr
        assert not list(home.rglob("*telemetry*")), done.stderr
        assert not list(home.rglob("Microsoft")), done.stderr
        return done

    return run


@pytest.mark.slow
def test_doctor_and_its_probes_use_no_network(alone):
    done = alone("-m", "seglab", "doctor", "--json")
    assert json.loads(done.stdout)


def test_onnx_runtime_reports_nothing(alone, tmp_path):
    """A reporter would also leave the identity of the device and a list of events in the user's cache."""
    import onnx
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "a.onnx")
    code = (
        "from pathlib import Path; from seglab.models.session import open_session; "
        "open_session(Path('a.onnx'), Path('a.onnx').read_bytes(), threads=1); print('opened')"
    )
    assert alone("-c", code).stdout == "opened\n"
