"""Networks become graphs that take any batch, height and width. The ones with pyramid pools once did not."""

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from seglab.models.segmenter import Segmenter
from tests.models.networks import network, picture


class MainOutput(torch.nn.Module):
    def __init__(self, segmenter: Segmenter):
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image):
        return self.segmenter(image)[0]


@pytest.mark.exhaustive
@pytest.mark.parametrize("label", ["unet-light", "smp-pspnet", "pix2pix edge"])
def test_graph_takes_any_size(label):
    segmenter = network(label).eval()
    any_size = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            MainOutput(segmenter).eval(), (picture(2, 3, 72, 104),), dynamo=True, verbose=False,
            dynamic_shapes=({0: any_size, 2: any_size, 3: any_size},), input_names=["image"],
        )  # fmt: skip
    graph = io.BytesIO()
    program.save(graph)
    session = onnxruntime.InferenceSession(graph.getvalue(), providers=["CPUExecutionProvider"])
    for shape in ((2, 3, 72, 104), (1, 3, 37, 53), (3, 3, 64, 48), (1, 3, 1, 1)):
        images = picture(*shape)
        with torch.no_grad():
            expected = segmenter(images)[0].numpy()
        np.testing.assert_allclose(session.run(None, {"image": images.numpy()})[0], expected, atol=1e-3)
