"""A pickle that would do harm, at every place of the command line where a file of weights may be named."""

import os
import pickle
import zipfile

import pytest
import torch

from seglab.data.images import encode_png
from tests.fuzz import seeds
from tests.security.conftest import World

COMMANDS = {
    "predict": ("predict", "--model", "{evil}", "a.png", "-o", "out"),
    "cutout": ("cutout", "--model", "{evil}", "a.png", "-o", "out"),
    "export": ("export", "{evil}", "out.onnx"),
    "show": ("models", "show", "{evil}"),
    "import": ("models", "import", "{evil}", "out"),
    "init": ("train", "--data", "data", "--task", "person", "--out", "out", "--init", "{evil}", "--size", "32"),
    "promote": ("promote", "{evil}", "out"),
    "evaluate": ("evaluate", "--model", "{evil}", "--data", "data"),
}


class Runs:
    """Calls something when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    (tmp_path / "a.png").write_bytes(encode_png(seeds._blocks()[..., None].repeat(3, 2)))
    world.run("synth", "synth", "-n", 4, "--size", "32", "data")
    return world


@pytest.mark.parametrize("form", ["zip", "old", "plain", "hidden"])
def test_nothing_in_a_pickle_is_run_by_any_command(world, form):
    canary, evil = world.dir / "canary", world.dir / "evil.pth"
    value = {"a.weight": torch.ones(2, 2), "zz": Runs(f"touch '{canary}'")}
    if form in ("zip", "old"):
        torch.save(value, evil, _use_new_zipfile_serialization=form == "zip")
    elif form == "plain":
        evil.write_bytes(pickle.dumps(value["zz"]))
    else:  # sound at first sight: the harm is in a second member of the same name
        evil.write_bytes(seeds.torch_zips()[0])
        with zipfile.ZipFile(evil, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(archive.namelist()[0], pickle.dumps(value["zz"]))
    for name, words in COMMANDS.items():
        done = world.run(name, *(word.format(evil=evil) for word in words))
        assert done.code in (2, 3), (name, done.err)
        assert "Traceback" not in done.err
        assert not canary.exists(), name
    pickle.loads(pickle.dumps(value["zz"]))
    assert canary.exists(), "a canary that cannot sing proves nothing"
    assert not (world.dir / "out").exists()
