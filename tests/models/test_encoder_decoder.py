import pytest
import torch
from torch.nn import functional as F

from seglab.models import zoo
from seglab.models.encoder_decoder import GridAverage, import_smp
from tests.models.networks import picture


@pytest.mark.parametrize("num_cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size_hw", [(1, 1), (5, 7), (12, 18), (2, 9), (48, 36)])
def test_grid_average_is_adaptive_average_pooling(num_cells, size_hw):
    features = picture(2, 4, *size_hw)
    expected = F.adaptive_avg_pool2d(features, num_cells)
    torch.testing.assert_close(GridAverage(num_cells)(features), expected)


@pytest.mark.parametrize(
    "name", ["fpn-mobilenet_v2", "pspnet-mobilenet_v2", "upernet-mobilenet_v2", "deeplabv3-mobilenet_v2"]
)
def test_equal_to_smp_where_its_sizes_fit(name):
    decoder, _, encoder = name.partition("-")
    torch.manual_seed(0)
    original = import_smp().create_model(decoder, encoder, encoder_weights=None, classes=5).eval()
    segmenter = zoo.build(name, 5).eval()
    keys = segmenter.state_dict().keys()
    weights = original.state_dict()
    assert keys <= weights.keys()
    assert (keys < weights.keys()) == (decoder == "pspnet")
    segmenter.load_state_dict({key: weights[key] for key in keys})
    images = picture(2, 3, 96, 128)
    with torch.no_grad():
        torch.testing.assert_close(segmenter(images)[0], original(images), rtol=1e-5, atol=1e-5)


def test_an_encoder_that_is_cut_short_keeps_only_what_it_uses():
    whole = zoo.build("fpn-resnet18", 2)
    short = zoo.build("fpn-resnet18", 2, encoder_depth=4)
    assert any(key.startswith("encoder.layer4") for key in whole.state_dict())
    assert not any(key.startswith("encoder.layer4") for key in short.state_dict())
    short.train()(picture(2, 3, 64, 64))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in short.parameters())


def test_deprecated_encoder_names_still_build():
    segmenter = zoo.build("unet-timm-efficientnet-b0", 2).eval()
    with torch.no_grad():
        assert segmenter(picture(1, 3, 20, 30))[0].shape == (1, 2, 20, 30)
