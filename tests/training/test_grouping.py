"""The losses of the Part Grouping Network against formulas written pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from seglab.training.grouping import edge_loss, grouping_loss, parsing_loss

K = 4


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)

    def draw(*shape):
        return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)

    logits = [draw(2, K, 6, 5), draw(2, K, 6, 5)]
    edge_logits = [draw(2, 1, 6, 5) - 2 for _ in range(5)]
    labels = torch.randint(0, K, (2, 6, 5), generator=generator)
    edges = torch.randint(0, 2, (2, 6, 5), generator=generator)
    labels[0, :2, 1] = edges[1, 3, :2] = 255
    return logits, edge_logits, labels, edges


def plain_parsing(logits, labels, edge_logits):
    total = 0.0
    for output in logits:
        everywhere, near = [], []
        for b, y, x in np.ndindex(*labels.shape):
            if labels[b, y, x] == 255:
                continue
            values = output[b, :, y, x]
            nats = math.log(np.exp(values).sum()) - values[labels[b, y, x]]
            everywhere.append(nats)
            if 1 / (1 + math.exp(-edge_logits[b, 0, y, x])) > 0.1:
                near.append(nats)
        total += np.mean(everywhere) if everywhere else 0.0
        total += np.mean(near) if near else 0.0
    return total


def plain_edge(edge_logits, edges, labels):
    total = 0.0
    for output in edge_logits:
        of_pictures = []
        for b in range(len(edges)):
            positive, negative = 0.0, 0.0
            for y, x in np.ndindex(*edges.shape[1:]):
                p = 1 / (1 + math.exp(-output[b, 0, y, x]))
                foreground = labels[b, y, x] not in (0, 255)
                if edges[b, y, x] == 1:
                    positive += -math.log(p) * (1 + foreground)
                if edges[b, y, x] == 0:
                    negative += -math.log(1 - p) * (1 + foreground)
            num_pos, num_neg = (edges[b] == 1).sum(), (edges[b] == 0).sum()
            num = num_pos + num_neg
            of_pictures.append(2 * num_neg / num * positive + num_pos / num * negative)
        total += np.mean(of_pictures)
    return total


def test_against_plain_formulas(batch):
    logits, edge_logits, labels, edges = batch
    parsing = plain_parsing([output.numpy() for output in logits], labels.numpy(), edge_logits[0].numpy())
    edge = plain_edge([output.numpy() for output in edge_logits], edges.numpy(), labels.numpy())
    assert float(parsing_loss(logits, labels, edge_logits[0])) == pytest.approx(parsing, rel=1e-12)
    assert float(edge_loss(edge_logits, edges, labels)) == pytest.approx(edge, rel=1e-12)
    total, parts = grouping_loss(*batch[:2], labels, edges)
    assert float(total) == pytest.approx(50 * parsing + 0.005 * edge, rel=1e-12)
    assert {name: float(part) for name, part in parts.items()} == pytest.approx(
        {"loss": float(total), "ce": 50 * parsing, "edge": 0.005 * edge}
    )


def test_gradients(batch):
    logits, edge_logits, labels, edges = batch
    inputs = [output.requires_grad_() for output in (*logits, *edge_logits)]

    def loss(*outputs):
        return grouping_loss(outputs[:2], outputs[2:], labels, edges)[0]

    assert torch.autograd.gradcheck(loss, inputs)
    loss(*inputs).backward()
    for output in logits:
        assert not output.grad.permute(0, 2, 3, 1)[labels == 255].any()
        assert output.grad.permute(0, 2, 3, 1)[labels != 255].all()
    for output in edge_logits:
        assert not output.grad[:, 0][edges == 255].any()
        assert output.grad[:, 0][edges != 255].all()


def test_the_parsing_loss_does_not_move_the_edges(batch):
    logits, edge_logits, labels, _ = batch
    edge_logits[0].requires_grad_()
    logits[0].requires_grad_()
    parsing_loss(logits, labels, edge_logits[0]).backward()
    assert edge_logits[0].grad is None


def test_nothing_known_is_no_loss(batch):
    logits, edge_logits, labels, edges = batch
    for output in (*logits, *edge_logits):
        output.requires_grad_()
    total, _ = grouping_loss(logits, edge_logits, torch.full_like(labels, 255), torch.full_like(edges, 255))
    total.backward()
    assert total.item() == 0
    assert not any(output.grad.any() for output in (*logits, *edge_logits))


def test_no_pixel_near_an_edge_counts_each_once(batch):
    logits, edge_logits, labels, _ = batch
    far, near = torch.full_like(edge_logits[0], -9.0), torch.full_like(edge_logits[0], 9.0)
    assert float(parsing_loss(logits, labels, near)) == pytest.approx(2 * float(parsing_loss(logits, labels, far)))


def test_pictures_of_one_kind_of_pixel_weigh_nothing():
    """A picture without edges: its share of edges, the weight of the others, is 0. So it is with edges alone."""
    logits = [torch.ones(1, 1, 3, 3)]
    labels = torch.zeros(1, 3, 3, dtype=torch.long)
    for value in (0, 1):
        assert float(edge_loss(logits, torch.full((1, 3, 3), value), labels)) == 0


def test_half_precision_is_summed_in_single(batch):
    logits, edge_logits, labels, edges = batch
    halves = [[output.to(torch.bfloat16) for output in outputs] for outputs in (logits, edge_logits)]
    total, _ = grouping_loss(*halves, labels, edges)
    exact, _ = grouping_loss(*([output.double() for output in outputs] for outputs in halves), labels, edges)
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(float(exact), rel=1e-5)
