"""The light U-Net's kinds within classes."""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from seglab.device import Device
from seglab.engines import ENGINES, open_engine
from seglab.models.bundle import BundleConfig, save_bundle
from seglab.models.export import export_onnx, photo_like
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS

CPU = Device("cpu", None, "test")


def test_the_probability_of_a_class_is_the_sum_of_its_kinds() -> None:
    """Of one and the same weights: a network for six kinds, and one for three classes of them."""
    torch.manual_seed(0)
    fine = build("unet-light", 6, width=2).eval()
    coarse = build("unet-light", 3, width=2, subclasses=[3, 1, 2]).eval()
    coarse.load_state_dict(fine.state_dict())
    heads: list[torch.Tensor] = []
    fine.head.register_forward_hook(lambda _module, _inputs, output: heads.append(output))
    image = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        fine(image)
        made = coarse._summed(heads[0])
        kinds = heads[0].softmax(1)
        summed = torch.stack([kinds[:, :3].sum(1), kinds[:, 3], kinds[:, 4:].sum(1)], 1)
        torch.testing.assert_close(made.softmax(1), summed)
        assert coarse(image)[0].shape == (2, 3, 32, 64)


def test_without_kinds_nothing_is_changed() -> None:
    torch.manual_seed(0)
    plain = build("unet-light", 2, width=2).eval()
    single = build("unet-light", 2, width=2, subclasses=[1, 1]).eval()
    single.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain(image)[0], single(image)[0])


def test_engines_agree_on_small_and_on_large_logits(tmp_path: Path) -> None:
    """Sums of exponentials are where engines could overflow."""
    torch.manual_seed(0)
    args = {"width": 2, "subclasses": [3, 1, 1, 2]}
    network = build("unet-light", 4, **args)
    for size, scale in (("small", 1.0), ("large", 300.0)):
        torch.nn.init.normal_(network.head.weight, std=scale)
        config = BundleConfig(
            task=TASKS["clothes"], model="unet-light", model_args=args, preprocess=Preprocess(size_hw=(32, 64))
        )
        save_bundle(tmp_path / size, config, network.state_dict())
        export_onnx(tmp_path / size, verify=False)
        names = [name for name in ENGINES[1:] if name != "openvino" or importlib.util.find_spec(name) is not None]
        answers = {name: open_engine(tmp_path / size, CPU, name)[0](photo_like((2, 32, 64), 3)) for name in names}
        largest = np.abs(answers["torch"]).max()
        assert np.isfinite(largest)
        assert largest > scale
        for answer in answers.values():
            np.testing.assert_allclose(answer, answers["torch"], atol=1e-5 * largest)
