"""Write seglab/models/figures.py: the names of the zoo's table, their parameters and operations.

python tests/models/make_figures.py
"""

import subprocess
import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from seglab.models import zoo

OWN = list(zoo._NETWORKS)
ENCODERS = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "mobilenet_v2",
    "efficientnet-b0",
    "efficientnet-b3",
    "timm-efficientnet-b3",
    "vgg16_bn",
    "vgg19",
    "densenet121",
    "tu-mobilenetv3_large_100",
    "tu-convnext_tiny",
    "mit_b0",
    "mit_b2",
    "mobileone_s0",
]
VISION_TRANSFORMERS = ["tu-vit_tiny_patch16_224", "tu-vit_small_patch16_224", "tu-vit_base_patch16_224"]
DILATED = {"pan", "deeplabv3", "deeplabv3plus"}
NOT_DILATABLE = {"vgg16_bn", "vgg19", "densenet121"}


def selected() -> list[str]:
    """The names that the table holds."""
    pairs = [(decoder, encoder) for decoder in zoo.DECODERS if decoder != "dpt" for encoder in ENCODERS]
    pairs += [("dpt", encoder) for encoder in VISION_TRANSFORMERS]
    return OWN + [
        f"{decoder}-{encoder}"
        for decoder, encoder in pairs
        if not (decoder in DILATED and encoder in NOT_DILATABLE)
        and not (decoder in {"unetplusplus", "linknet"} and encoder.startswith("mit_"))
    ]


def measure(name: str) -> tuple[int, float]:
    """Parameters, and GFLOP at the default size, both with two classes; on tensors without values."""
    network = zoo.build(name, 2).eval()
    size = zoo.row(name).size
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {key: torch.empty_like(tensor, device="meta") for key, tensor in tensors.items()}
    image = torch.empty(1, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        torch.func.functional_call(network, shapes, (image,))
    params = sum(parameter.numel() for parameter in network.parameters())
    return params, round(counter.get_total_flops() / 1e9, 3)


def main() -> None:
    """Overwrite the file."""
    lines = []
    for name in selected():
        params, gflop = measure(name)
        lines.append(f'    "{name}": ({params:_}, {gflop}),')
        print(lines[-1], file=sys.stderr)
    path = Path(__file__).parents[2] / "seglab" / "models" / "figures.py"
    path.write_text(
        '"""The names of the zoo and their figures; written by tests/models/make_figures.py, not by hand."""\n\n'
        "from collections.abc import Mapping\nfrom typing import Final\n\n"
        '__all__ = ["FIGURES"]\n\n'
        "FIGURES: Final[Mapping[str, tuple[int, float]]] = {\n" + "\n".join(lines) + "\n}\n"
        '"""Name to parameters with two classes and GFLOP (multiply and add counted as two) at the row\'s size."""\n',
        encoding="utf-8",
    )
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(path)], check=True)


if __name__ == "__main__":
    main()
