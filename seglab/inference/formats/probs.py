"""Probabilities of classes as ``.npz``, written band by band, so that no photo is too large."""

import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from seglab.data.geometry import unfit_bands
from seglab.inference.fidelity import SEGLAB
from seglab.inference.labelled import Labelled

__all__ = ["write_probs"]

_BAND = 64
"""Rows that are written at once."""


def write_probs(stream: BinaryIO, labelled: Labelled, suffix: str) -> None:  # noqa: ARG001 - the signature of a format
    """Write ``probs`` (H, W, C float16: softmax over all classes of the task) and ``classes`` (their C names).

    C is all classes of the task or, where some are kept or dropped, those that are wanted, without the background.

    Args:
        stream: Where to; it need not be seekable.
        labelled: The answer.
        suffix: ``.npz``.
    """
    task = labelled.task
    chosen = labelled.selection.keep or labelled.selection.drop
    channels = list(labelled.classes) if chosen else list(range(task.num_classes))
    names = np.array([task.classes[index] for index in channels])
    shape = (*labelled.labels.shape, len(channels))
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("probs.npy", "w", force_zip64=True) as member:
            header: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for band_CHW in _bands(labelled, channels):
                member.write(np.ascontiguousarray(band_CHW.transpose(1, 2, 0), dtype="<f2").tobytes())
        with archive.open("classes.npy", "w") as member:
            np.lib.format.write_array(member, names, allow_pickle=False)


def _bands(labelled: Labelled, channels: list[int]) -> Iterator[NDArray[np.float32]]:
    answer = labelled.answer
    if labelled.road is not SEGLAB:
        planes = [labelled.road.alpha(answer.logits_KHW, answer.placement, [index]) for index in channels]
        for top in range(0, labelled.labels.shape[0], _BAND):
            yield np.stack([plane[top : top + _BAND] for plane in planes])
        return
    for _, logits_KHW in unfit_bands(answer.logits_KHW, answer.placement):
        powers_KHW = np.exp(logits_KHW - logits_KHW.max(axis=0))
        yield powers_KHW[channels] / powers_KHW.sum(axis=0)
