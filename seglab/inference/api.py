"""The Python API's way in: :func:`load`."""

from pathlib import Path

from seglab.device import choose_device
from seglab.engines import EngineChoice
from seglab.inference.manner import Manner
from seglab.inference.model import choose_model
from seglab.inference.predictor import Predictor
from seglab.inference.tiling import parse_tiling
from seglab.models.catalogue import whole_person_task

__all__ = ["load"]


def load(
    model: str | Path | None = None,
    task: str | None = None,
    device: str | None = None,
    engine: str = "auto",
    *,
    batch_size: int = 1,
    precision: str = "auto",
    compile: bool = False,
    threads: int | None = None,
    fidelity: str = "seglab",
    bn: str | None = None,
    tta: str = "none",
    tile: str | int | None = None,
) -> Predictor:
    """Load a model; what comes back answers photos.

    Everything is as on the command line, the defaults too.

    Args:
        model: A run or bundle folder, an ``.onnx`` file, a published checkpoint, or the name of one that was fetched;
            None takes the model that comes with seglab for the task.
        task: Name or TOML file of the task that is wanted; None takes the model's own, or people without a model.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; None reads ``SEGLAB_DEVICE``.
        engine: ``auto``, ``onnxruntime``, ``torch`` or ``openvino``.
        batch_size: The most photos that go through the network at once.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``auto`` is fp32.
        compile: Whether torch compiles the network.
        threads: CPU threads of the network; all usable ones by default.
        fidelity: ``original`` uses published weights as their own code does.
        bn: ``running`` or ``batch``.
        tta: ``flip`` or ``multiscale`` look several times and average.
        tile: Cuts large photos into overlapping tiles: a side in pixels, or ``auto``.

    Raises:
        UsageError: If an argument means nothing, or two contradict each other.
        DataError: If the model is missing, damaged, or was trained for another task.
        DeviceError: If the device or the engine is not available.
    """
    choice = EngineChoice(engine, precision, compile, threads)
    chosen = choose_device(device, with_torch=choice.may_use_torch)
    task = task or (whole_person_task() if model is None else None)
    found = choose_model(task, None if model is None else str(model), Manner(fidelity, bn, tta))
    tiling = parse_tiling(None if tile is None else str(tile))
    predictor = found.open(chosen, engine=choice, batch_size=batch_size)
    return predictor.with_tiling(tiling)
