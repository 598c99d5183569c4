"""Losses against formulas written otherwise, and what must not change them."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from seglab.training.losses import cross_entropy, cross_entropy_sum, soft_dice, weighted_loss

SHAPE = (2, 4, 5, 6)


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, SHAPE[1], (SHAPE[0], *SHAPE[2:]), generator=generator)
    labels[0, :2, :3] = 255
    labels[1, 3:] = 255
    return logits, labels


def pixels(logits, labels):
    """(N, K) probabilities and (N,) labels of the labelled pixels, by numpy."""
    flat = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).numpy()
    truth = labels.reshape(-1).numpy()
    exponents = np.exp(flat - flat.max(1, keepdims=True))
    return (exponents / exponents.sum(1, keepdims=True))[truth != 255], truth[truth != 255]


def brute_force_dice(logits, labels):
    probs, truth = pixels(logits, labels)
    losses = []
    for label in range(logits.shape[1]):
        if label not in truth:
            continue
        overlap = sum(p[label] for p, t in zip(probs, truth, strict=True) if t == label)
        total = sum(p[label] for p in probs) + sum(1 for t in truth if t == label)
        losses.append(1 - 2 * overlap / total)
    return sum(losses) / len(losses)


def test_cross_entropy_equals_scikit_learns_log_loss(sample):
    probs, truth = pixels(*sample)
    assert cross_entropy(*sample).item() == pytest.approx(log_loss(truth, probs, labels=range(4)), abs=1e-12)


def test_the_sum_and_its_count_add_up_over_parts(sample):
    """What several processes do: unequal numbers of labelled pixels must not be averaged twice."""
    logits, labels = sample
    parts = [cross_entropy_sum(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    assert parts[0][1] != parts[1][1]
    whole = sum(total for total, _ in parts) / sum(count for _, count in parts)
    assert whole.item() == pytest.approx(cross_entropy(logits, labels).item(), abs=1e-12)


def test_soft_dice_equals_the_formula_pixel_by_pixel(sample):
    assert soft_dice(*sample).item() == pytest.approx(brute_force_dice(*sample), abs=1e-12)


def test_an_absent_class_is_left_out_of_soft_dice(sample):
    logits, labels = sample
    labels = torch.where(labels == 2, 255, labels)
    assert soft_dice(logits, labels).item() == pytest.approx(brute_force_dice(logits, labels), abs=1e-12)
    present = [0, 1, 3]
    renumbered = torch.full_like(labels, 255)
    for new, old in enumerate(present):
        renumbered[labels == old] = new
    never = logits.clone()
    never[:, 2] = -1e9
    assert soft_dice(never, labels).item() == pytest.approx(soft_dice(never[:, present], renumbered).item(), abs=1e-12)


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice])
def test_ignored_pixels_change_nothing(sample, loss):
    logits, labels = sample
    ignored = (labels == 255)[:, None].expand_as(logits)
    noisy = torch.where(ignored, torch.randn(SHAPE, dtype=torch.float64) * 50, logits)
    assert not torch.equal(noisy, logits)
    assert loss(noisy, labels).item() == loss(logits, labels).item()
    leaf = logits.clone().requires_grad_()
    loss(leaf, labels).backward()
    assert leaf.grad[ignored].abs().max() == 0
    assert leaf.grad[~ignored].abs().min() > 0


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice])
def test_gradients_are_those_of_the_loss(sample, loss):
    logits, labels = sample
    small, small_labels = logits[:, :, :3, :3].clone().requires_grad_(), labels[:, :3, :3]
    assert torch.autograd.gradcheck(lambda x: loss(x, small_labels), (small,))


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice])
def test_a_batch_without_labels_costs_nothing_and_is_finite(loss):
    logits = torch.randn(SHAPE, requires_grad=True)
    value = loss(logits, torch.full((2, 5, 6), 255))
    value.backward()
    assert value.item() == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice])
def test_a_perfect_prediction_costs_almost_nothing(sample, loss):
    _, labels = sample
    truth = torch.nn.functional.one_hot(labels.clamp(max=3), 4).permute(0, 3, 1, 2).double() * 60
    assert loss(truth, labels).item() < 1e-12
    assert loss(-truth, labels).item() > 0.9


def test_the_weighted_loss_is_the_weighted_sum_and_its_parts_add_up(sample):
    logits, labels = sample
    side = torch.randn(SHAPE, dtype=torch.float64)
    total, parts = weighted_loss((logits, side, -side), labels, ce_weight=2.0, dice_weight=0.5, aux_weight=0.25)

    def single(values):
        return 2.0 * cross_entropy(values, labels) + 0.5 * soft_dice(values, labels)

    expected = single(logits) + 0.25 * (single(side) + single(-side))
    assert total.item() == pytest.approx(expected.item(), abs=1e-12)
    assert parts["ce"] + parts["dice"] + parts["aux"] == pytest.approx(parts["loss"].item(), abs=1e-12)
    assert parts["loss"].item() == total.item()
    without, parts = weighted_loss((logits,), labels, ce_weight=0.0, dice_weight=1.0, aux_weight=0.25)
    assert without.item() == soft_dice(logits, labels).item()
    assert parts["aux"] == 0
    assert "ce" not in parts


def test_half_precision_logits_are_summed_in_single(sample):
    logits, labels = sample
    total, _ = weighted_loss((logits.bfloat16(),), labels, ce_weight=1.0, dice_weight=1.0, aux_weight=0.0)
    assert total.dtype == torch.float32
    exact, _ = weighted_loss((logits.bfloat16().double(),), labels, ce_weight=1.0, dice_weight=1.0, aux_weight=0.0)
    assert total.item() == pytest.approx(exact.item(), abs=1e-5)
