"""Losses against formulas written otherwise, and what must not change them."""

import itertools
import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import log_loss

from seglab.config import LOSSES, TrainConfig
from seglab.errors import UsageError
from seglab.training.losses import Criterion, Truth, mean_loss
from seglab.training.losses.balance import balanced_weights
from seglab.training.losses.boundary import signed_distances
from seglab.training.losses.criterion import _TABLE
from seglab.training.losses.pixelwise import edges

SHAPE = (3, 4, 7, 6)
PICTURE_LOSSES = sorted(set(LOSSES) - {"edge", "near_edge"})
"""Those that need no edge map."""
WEIGHTS = [0.5, 2.0, 1.0, 3.0]


@pytest.fixture
def sample():
    """Three pictures of unlike numbers of labelled pixels and classes; one has classes 0 and 1 only."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, SHAPE[1], (SHAPE[0], *SHAPE[2:]), generator=generator)
    labels[0, :2, :3] = 255
    labels[1, 3:] = 255
    labels[2] %= 2
    return logits, labels


def softmax(logits):
    exponents = np.exp(logits - logits.max(0, keepdims=True))
    return exponents / exponents.sum(0, keepdims=True)


def pictures(logits, labels):
    """(K, N) probabilities and (N,) labels of the labelled pixels of every picture, by numpy."""
    for picture, truth in zip(logits.numpy(), labels.numpy(), strict=True):
        yield softmax(picture)[:, truth != 255], truth[truth != 255]


def mean_over_pictures(formula):
    def plain(logits, labels, **options):
        values = []
        for probs, truth in pictures(logits, labels):
            present = [label for label in range(len(probs)) if (truth == label).any()]
            values.append(np.mean([formula(probs[k], (truth == k).astype(float), **options) for k in present]))
        return np.mean(values)

    return plain


def mean_over_pixels(formula):
    def plain(logits, labels, weights=None, **options):
        weights = np.ones(logits.shape[1]) if weights is None else np.array(weights)
        total, count = 0.0, 0.0
        for probs, truth in pictures(logits, labels):
            for pixel, label in zip(probs.T, truth, strict=True):
                total += formula(pixel, label, weights, **options)
                count += weights[label]
        return total / count

    return plain


def plain_cross_entropy(pixel, label, weights, *, label_smoothing):
    target = np.full(len(pixel), label_smoothing / len(pixel))
    target[label] += 1 - label_smoothing
    return -(target * weights * np.log(pixel)).sum()


def plain_tversky(p, t, *, alpha, beta):
    tp, fp, fn = (p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
    return 1 - tp / (tp + alpha * fp + beta * fn)


def plain_tversky_sum(logits, labels, *, alpha, beta, eps):
    """The original's loop, with its names' meaning: predictions times alpha, truth times beta, all classes."""
    loss = 0.0
    for probs, truth in pictures(logits, labels):
        for k, p in enumerate(probs):
            t = (truth == k).astype(float)
            loss += 1 - (p * t).sum() / (alpha * p.sum() + beta * t.sum() + eps)
    return loss


def plain_lovasz(p, t):
    """The Lovász extension by its definition: the integral over thresholds of the set function."""
    errors = np.abs(t - p)
    levels = np.unique(np.concatenate([[0.0], errors]))
    total = 0.0
    for below, above in itertools.pairwise(levels):
        wrong = errors >= above
        union = np.logical_or(t > 0, wrong).sum()
        total += (above - below) * wrong.sum() / union
    return total


def plain_bce(logits, labels):
    values = []
    for picture, truth in zip(logits.numpy(), labels.numpy(), strict=True):
        for y, x in np.argwhere(truth != 255):
            for k, z in enumerate(picture[:, y, x]):
                values.append(math.log1p(math.exp(-z if truth[y, x] == k else z)))
    return np.mean(values)


def plain_distances(truth, num_classes, radius):
    """(K, H, W) by scipy; the nearest pixel on the other side must be labelled."""
    maps = []
    for k in range(num_classes):
        inside, outside = truth == k, (truth != k) & (truth != 255)
        if not inside.any():
            maps.append(np.zeros(truth.shape))
            continue
        to_inside = distance_transform_edt(~inside)
        to_outside = distance_transform_edt(~outside) if outside.any() else np.full(truth.shape, np.inf)
        maps.append((np.minimum(to_inside, radius) - np.minimum(to_outside, radius)) / radius)
    return np.stack(maps)


def plain_boundary(logits, labels, *, radius):
    total, count = 0.0, 0
    for picture, truth in zip(logits.numpy(), labels.numpy(), strict=True):
        probs, distances = softmax(picture), plain_distances(truth, len(picture), radius)
        for y, x in np.argwhere(truth != 255):
            total += (distances[:, y, x] * probs[:, y, x]).sum() - distances[truth[y, x], y, x]
            count += 1
    return total / count


PLAIN = {
    "cross_entropy": mean_over_pixels(plain_cross_entropy),
    "focal": mean_over_pixels(lambda p, k, w, gamma: -w[k] * (1 - p[k]) ** gamma * math.log(p[k])),
    "bce": plain_bce,
    "dice": mean_over_pictures(lambda p, t: 1 - 2 * (p * t).sum() / (p.sum() + t.sum())),
    "iou": mean_over_pictures(lambda p, t: 1 - (p * t).sum() / (p + t - p * t).sum()),
    "tversky": mean_over_pictures(plain_tversky),
    "tversky_sum": plain_tversky_sum,
    "lovasz": mean_over_pictures(plain_lovasz),
    "boundary": plain_boundary,
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in PICTURE_LOSSES),
        ("cross_entropy", {"label_smoothing": 0.2}), ("focal", {"gamma": 0.5}), ("focal", {"gamma": 0.0}),
        ("tversky", {"alpha": 0.7, "beta": 0.3}), ("tversky_sum", {"alpha": 0.2, "beta": 0.9, "eps": 0.1}),
        ("boundary", {"radius": 2}), ("boundary", {"radius": 40}),
    ],
)  # fmt: skip
def test_every_loss_equals_the_formula_pixel_by_pixel(sample, name, options):
    expected = PLAIN[name](*sample, **{**LOSSES[name], **options})
    assert mean_loss(name, *sample, **options).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("name", "options"), [("cross_entropy", {"label_smoothing": 0.1}), ("focal", {"gamma": 2.0})])
def test_class_weights_weigh_pixels_and_their_count(sample, name, options):
    expected = PLAIN[name](*sample, weights=WEIGHTS, **options)
    assert mean_loss(name, *sample, class_weights=WEIGHTS, **options).item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_equals_scikit_learns_log_loss(sample):
    probs, truth = (np.concatenate(parts, -1) for parts in zip(*pictures(*sample), strict=True))
    assert mean_loss("cross_entropy", *sample).item() == pytest.approx(log_loss(truth, probs.T, labels=range(4)))


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("dice", smp.losses.DiceLoss, {}),
        ("iou", smp.losses.JaccardLoss, {}),
        ("tversky", smp.losses.TverskyLoss, {"alpha": 0.3, "beta": 0.7}),
        ("lovasz", smp.losses.LovaszLoss, {}),
    ],
)
def test_smp_agrees_where_it_means_the_same(sample, name, theirs, options):
    """One picture that has every class: there the pooling and the absent classes make no difference."""
    logits, labels = sample[0][:1].float(), sample[1][:1]
    assert set(labels.unique().tolist()) == {0, 1, 2, 3, 255}
    if name == "iou":  # its Jaccard loss cannot ignore
        other, known = theirs(mode="multiclass"), labels % 4
    else:
        other, known = theirs(mode="multiclass", ignore_index=255, **options), labels
    assert mean_loss(name, logits, known, **options).item() == pytest.approx(other(logits, known).item(), rel=1e-5)


def test_smps_focal_loss_on_the_softmax_agrees(sample):
    from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits

    logits, labels = sample[0], sample[1] % 4
    expected = softmax_focal_loss_with_logits(logits, labels, gamma=2.0).item()
    assert mean_loss("focal", logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_half_and_half_tversky_is_dice_and_full_is_iou(sample):
    assert mean_loss("tversky", *sample, alpha=0.5, beta=0.5) == pytest.approx(mean_loss("dice", *sample).item())
    assert mean_loss("tversky", *sample, alpha=1.0, beta=1.0) == pytest.approx(mean_loss("iou", *sample).item())


def test_the_loss_of_one_logit_is_the_cross_entropy_of_two(sample):
    logits = sample[0][:, :1]
    labels = sample[1] % 2
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.double())
    lifted = torch.cat((torch.zeros_like(logits), logits), 1)
    assert mean_loss("cross_entropy", lifted, labels).item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("name", PICTURE_LOSSES)
def test_gradients_are_those_of_the_loss(sample, name):
    logits, labels = sample[0][:, :, :4, :4].clone().requires_grad_(), sample[1][:, :4, :4]
    assert torch.autograd.gradcheck(lambda values: mean_loss(name, values, labels), (logits,), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", PICTURE_LOSSES)
def test_ignored_pixels_change_nothing(sample, name):
    logits, labels = sample
    other = torch.where((labels == 255)[:, None], torch.randn_like(logits) * 50, logits).requires_grad_()
    value = mean_loss(name, other, labels)
    value.backward()
    assert value.item() == pytest.approx(mean_loss(name, logits, labels).item(), rel=1e-9)
    assert other.grad.permute(0, 2, 3, 1)[labels == 255].abs().max() == 0


@pytest.mark.parametrize("name", sorted(set(PICTURE_LOSSES) - {"bce", "tversky_sum"}))
def test_a_class_that_is_nowhere_changes_nothing(sample, name):
    """Neither in the labels nor predicted: as if the network had no such class."""
    logits, labels = sample
    wider = torch.cat((logits, torch.full_like(logits[:, :1], -1e9)), 1).requires_grad_()
    value = mean_loss(name, wider, labels)
    assert value.item() == pytest.approx(mean_loss(name, logits, labels).item(), rel=1e-9)
    value.backward()
    assert wider.grad[:, -1].abs().max() == 0


@pytest.mark.parametrize("name", ["dice", "iou", "tversky", "lovasz", "boundary"])
def test_a_class_absent_from_a_picture_counts_for_no_overlap(sample, name):
    """Its own term is left out of the mean; but what it takes from the others is lost to them."""
    logits, labels = sample[0][2:], sample[1][2:]
    assert set(labels.unique().tolist()) == {0, 1}
    swapped = logits[:, [0, 1, 3, 2]]
    assert mean_loss(name, swapped, labels).item() == pytest.approx(mean_loss(name, logits, labels).item(), rel=1e-9)
    perfect = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).double() * 60
    assert abs(mean_loss(name, perfect, labels).item()) < 1e-9


def test_the_summed_tversky_loss_adds_a_constant_for_absent_classes(sample):
    logits, labels = sample[0][2:].clone().requires_grad_(), sample[1][2:]
    perfect = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).double() * 60
    assert mean_loss("tversky_sum", perfect, labels).item() == pytest.approx(2.0, abs=1e-6)
    value = mean_loss("tversky_sum", logits, labels)
    torch.testing.assert_close(value, mean_loss("tversky_sum", logits, labels, eps=0.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", PICTURE_LOSSES)
def test_without_labels_there_is_no_loss_and_no_gradient(name):
    logits = torch.randn(2, 3, 5, 6, requires_grad=True)
    value = mean_loss(name, logits, torch.full((2, 5, 6), 255))
    value.backward()
    assert value.item() == (6 if name == "tversky_sum" else 0)
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", sorted(set(PICTURE_LOSSES) - {"tversky_sum"}))
def test_a_perfect_prediction_costs_almost_nothing(sample, name):
    _, labels = sample
    truth = torch.nn.functional.one_hot(labels.clamp(max=3), 4).permute(0, 3, 1, 2).double() * 120 - 60
    assert abs(mean_loss(name, truth, labels).item()) < 1e-9
    assert mean_loss(name, -truth, labels).item() > 0.05


@pytest.mark.parametrize("name", PICTURE_LOSSES)
def test_extreme_logits_are_sound(sample, name):
    logits = (sample[0].float() * 1e4).requires_grad_()
    value = mean_loss(name, logits, sample[1])
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("radius", [1, 3, 16])
def test_distances_are_scipys_cut_off(radius):
    rng = np.random.default_rng(3)
    truth = np.kron(rng.integers(0, 3, (4, 5)), np.ones((6, 5), np.int64))
    truth[rng.random(truth.shape) < 0.1] = 255
    found = signed_distances(Truth(torch.from_numpy(truth)[None], 4), radius)[0].numpy()
    np.testing.assert_allclose(found, plain_distances(truth, 4, radius), atol=1e-6)
    assert np.abs(found[3]).max() == 0


def config(losses, **settings):
    return TrainConfig(losses=losses, **settings)


def halves(criterion, network, images, labels):
    """Gradients of two uneven parts of a batch, each with the counts of both, added up."""
    parts = [(images[:1], labels[:1]), (images[1:], labels[1:])]
    counts = criterion.combine([criterion.counts(criterion.truth(part_labels, 4)) for _, part_labels in parts])
    network.zero_grad()
    values = []
    for part, part_labels in parts:
        loss, _ = criterion(network(part), criterion.truth(part_labels, 4), counts)
        loss.backward()
        values.append(loss.item())
    return sum(values), gradients_of(network)


def gradients_of(network):
    """By name; edge maps have none where no loss looks at them, nor has anything else where only they count."""
    return {
        name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None
    }


class Heads(torch.nn.Module):
    """Two outputs and, if asked for, two edge maps."""

    def __init__(self, edge_maps):
        super().__init__()
        torch.manual_seed(1)
        self.heads = torch.nn.ModuleList([torch.nn.Conv2d(4, k, 3, padding=1) for k in (4, 4, 1, 1)[: 2 + edge_maps]])
        self.double()

    def forward(self, images):
        return tuple(head(images) for head in self.heads)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_parts_of_a_batch_learn_what_the_whole_learns(sample, name):
    """What gradient accumulation and several processes do, with pictures of unlike numbers of labelled pixels."""
    images, labels = sample
    network = Heads(2)
    criterion = Criterion(config({name: 1.5}, output_weights=(1.0, 0.5)), WEIGHTS)
    assert criterion.counts(criterion.truth(labels[:1], 4)) != criterion.counts(criterion.truth(labels[1:], 4)) or (
        name == "tversky_sum"
    )
    value, gradients = halves(criterion, network, images, labels)
    network.zero_grad()
    loss, _ = criterion(network(images), criterion.truth(labels, 4))
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-6)
    whole = gradients_of(network)
    assert gradients.keys() == whole.keys()
    assert len(whole) == 4  # weight and bias of two outputs
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(gradient, whole[parameter], rtol=1e-6, atol=1e-9)


def test_the_loss_is_the_weighted_sum_and_its_parts_add_up(sample):
    logits, labels = sample
    side = torch.randn(SHAPE, dtype=torch.float64)
    losses = {"cross_entropy": {"weight": 2.0, "label_smoothing": 0.1}, "lovasz": 0.5, "dice": 0}
    criterion = Criterion(config(losses, output_weights=(1.5, 0.25)))
    total, parts = criterion((logits, side, -side), criterion.truth(labels, 4))

    def single(values):
        smooth = mean_loss("cross_entropy", values, labels, label_smoothing=0.1)
        return 2.0 * smooth + 0.5 * mean_loss("lovasz", values, labels)

    expected = 1.5 * single(logits) + 0.25 * (single(side) + single(-side))
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert set(parts) == {"loss", "cross_entropy", "lovasz", "aux"}
    assert criterion.names == ("cross_entropy", "lovasz")
    assert parts["cross_entropy"] + parts["lovasz"] + parts["aux"] == pytest.approx(parts["loss"].item())
    assert parts["loss"].item() == total.item()
    _, parts = criterion((logits,), criterion.truth(labels, 4))
    assert parts["aux"] == 0


def test_half_precision_logits_are_summed_in_single(sample):
    logits, labels = sample
    criterion = Criterion(config({"cross_entropy": 1.0, "dice": 1.0}))
    total, _ = criterion((logits.bfloat16(),), criterion.truth(labels, 4))
    assert total.dtype == torch.float32
    exact, _ = criterion((logits.bfloat16().double(),), criterion.truth(labels, 4))
    assert total.item() == pytest.approx(exact.item(), abs=1e-5)


def plain_edges(truth):
    found = np.zeros(truth.shape, bool)
    for y, x in np.argwhere(truth != 255):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            ny, nx = y + dy, x + dx
            inside = 0 <= ny < truth.shape[0] and 0 <= nx < truth.shape[1]
            found[y, x] |= inside and truth[ny, nx] not in (255, truth[y, x])
    return found


def test_edges_are_where_two_classes_meet(sample):
    found = edges(Truth(sample[1], 4)).numpy()
    np.testing.assert_array_equal(found, np.stack([plain_edges(truth) for truth in sample[1].numpy()]))
    assert 0 < found.sum() < found.size


def test_edge_maps_learn_edges_and_point_to_them(sample):
    """The losses of the Part Grouping Network, as its published code sums them, picture by picture."""
    logits, labels = sample
    edge_map = torch.randn(3, 1, 7, 6, dtype=torch.float64)
    expected_edge, expected_near = [], []
    for picture, (z,), truth in zip(logits.numpy(), edge_map.numpy(), labels.numpy(), strict=True):
        valid, positive = truth != 255, plain_edges(truth)
        num_positive, num = positive.sum(), valid.sum()
        value = np.where(positive, np.log1p(np.exp(-z)), np.log1p(np.exp(z)))
        value = value + value * (truth > 0)
        weighted = 2 * (num - num_positive) / num * value[positive].sum()
        expected_edge.append(weighted + num_positive / num * value[valid & ~positive].sum())
        near = valid & (1 / (1 + np.exp(-z)) > 0.1)
        log_probs = np.log(softmax(picture))
        expected_near.append(np.mean([-log_probs[truth[y, x], y, x] for y, x in np.argwhere(near)]))
    criterion = Criterion(config({"edge": 0.5, "near_edge": 2.0}, output_weights=(1.0,)))
    _, parts = criterion((logits, edge_map), criterion.truth(labels, 4))
    assert parts["edge"].item() == pytest.approx(0.5 * np.mean(expected_edge), rel=1e-6)
    assert parts["near_edge"].item() == pytest.approx(2.0 * np.mean(expected_near), rel=1e-6)
    with pytest.raises(UsageError, match="no output for edge"):
        criterion((logits,), criterion.truth(labels, 4))


def test_balanced_weights_follow_their_formula():
    pixels = [900_000, 90_000, 10_000, 0]
    weights = balanced_weights(pixels)
    shares = np.array(pixels[:3]) / 1e6
    np.testing.assert_allclose(weights[:3], 1 / np.sqrt(shares) / np.sqrt(shares).sum())
    assert (shares * weights[:3]).sum() == pytest.approx(1)
    assert weights[3] == 1
    assert balanced_weights([10**9, 10]) == [pytest.approx(1, abs=1e-3), 10.0]
    assert balanced_weights([5, 5]) == pytest.approx([1.0, 1.0])


def test_every_loss_of_a_recipe_is_one_of_the_package():
    assert set(_TABLE) == set(LOSSES)
    assert set(PLAIN) | {"edge", "near_edge"} == set(LOSSES)
