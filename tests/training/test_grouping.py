"""The Part Grouping Network in training: its loss pixel by pixel, where its outlines come from, and a short run."""

import json
import math
import shutil

import numpy as np
import pytest
import torch

from seglab.config import TrainConfig
from seglab.data.edges import edges_from_labels
from seglab.data.images import read_labels
from seglab.data.loader import TrainingSamples, epoch_batches
from seglab.data.manifest import open_dataset
from seglab.data.synth import synth
from seglab.device import Device
from seglab.engines.torch import TorchEngine
from seglab.errors import DataError
from seglab.models.bundle import load_network
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS
from seglab.training.loop import train
from seglab.training.losses import Criterion
from seglab.training.recipe import configure, load_recipe

K = 4
CPU = Device("cpu", None, "for tests")
PGN = configure(TrainConfig(), recipe=load_recipe("pgn"))
SMALL = {"width": 4, "blocks": [1, 1, 1, 1]}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)

    def draw(*shape):
        return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)

    outputs = [draw(2, K, 6, 5), draw(2, K, 6, 5), *(draw(2, 1, 6, 5) - 2 for _ in range(5))]
    labels = torch.randint(0, K, (2, 6, 5), generator=generator)
    edges = torch.randint(0, 2, (2, 6, 5), generator=generator)
    labels[0, :2, 1] = edges[1, 3, :2] = 255
    return outputs, labels, edges.byte()


def loss_of(outputs, labels, edges):
    criterion = Criterion(PGN)
    return criterion(outputs, criterion.truth(labels, K, edges))


def plain_parsing(logits, labels, edge_logits):
    """Over both outputs: the mean of all labelled pixels, and the mean over pictures of that of those at edges."""
    total = 0.0
    for output in logits:
        everywhere, near = [], [[] for _ in labels]
        for b, y, x in np.ndindex(*labels.shape):
            if labels[b, y, x] == 255:
                continue
            values = output[b, :, y, x]
            nats = math.log(np.exp(values).sum()) - values[labels[b, y, x]]
            everywhere.append(nats)
            if 1 / (1 + math.exp(-edge_logits[b, 0, y, x])) > 0.1:
                near[b].append(nats)
        total += np.mean(everywhere) + np.mean([np.mean(picture) for picture in near])
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


@pytest.mark.parametrize("num", [1, 2])
def test_the_loss_of_the_recipe_is_the_published_one(batch, num):
    outputs, labels, edges = ([output[:num] for output in batch[0]], *(part[:num] for part in batch[1:]))
    arrays = [output.numpy() for output in outputs]
    parsing = plain_parsing(arrays[:2], labels.numpy(), arrays[2])
    edge = plain_edge(arrays[2:], edges.numpy(), labels.numpy())
    total, parts = loss_of(outputs, labels, edges)
    assert float(total) == pytest.approx(50 * parsing + 0.005 * edge, rel=1e-6)
    assert float(parts["edge"]) == pytest.approx(0.005 * edge, rel=1e-6)


def test_gradients_reach_what_is_known(batch):
    outputs, labels, edges = batch
    outputs = [output.requires_grad_() for output in outputs]
    assert torch.autograd.gradcheck(lambda *outputs: loss_of(outputs, labels, edges)[0], outputs, atol=1e-4)
    loss_of(outputs, labels, edges)[0].backward()
    for logits in outputs[:2]:
        assert not logits.grad.permute(0, 2, 3, 1)[labels == 255].any()
        assert logits.grad.permute(0, 2, 3, 1)[labels != 255].all()
    for edge_logits in outputs[2:]:
        assert not edge_logits.grad[:, 0][edges == 255].any()
        assert edge_logits.grad[:, 0][edges != 255].all()


@pytest.fixture(scope="module")
def people_dir(tmp_path_factory):
    return synth(TASKS["parsing"], 6, (64, 64), tmp_path_factory.mktemp("people") / "data", seed=5, val=0.2).dir


def batches(dataset, *, edges=True, preset="strong", size=48, epoch=3, **options):
    config = configure(PGN, {"batch_size": 6, "augment": {"preset": preset, "hflip": 0.5}})
    samples = TrainingSamples(dataset, "train", Preprocess(size_hw=(size, size)), edges=edges, **options)
    return list(epoch_batches(samples, config, epoch, workers=0))


def test_outlines_are_those_of_people(people_dir):
    dataset = open_dataset(people_dir)
    (batch,) = batches(dataset, preset="none", size=64)
    for index, sample_id in enumerate(batch.ids):
        (sample,) = (sample for sample in dataset.samples if sample.id == sample_id)
        people = edges_from_labels(read_labels(dataset.people_path(sample)))
        assert any(np.array_equal(batch.edges_BHW[index], seen) for seen in (people, people[:, ::-1]))
        of_classes = edges_from_labels(batch.labels_BHW[index])
        assert of_classes.sum() > (batch.edges_BHW[index] == 1).sum()


@pytest.mark.parametrize("cache_bytes", [0, 10**8])
def test_people_and_classes_are_seen_from_the_same_side(people_dir, tmp_path, cache_bytes):
    """With classes in place of people, the outlines must be those of the labels, whatever the view."""
    shutil.copytree(people_dir, tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    for sample in dataset.samples:
        shutil.copy(dataset.label_path(sample), dataset.people_path(sample))
    for epoch in range(3):
        (batch,) = batches(dataset, epoch=epoch, cache_bytes=cache_bytes)
        expected = np.stack([edges_from_labels(labels) for labels in batch.labels_BHW])
        np.testing.assert_array_equal(batch.edges_BHW, expected)
        assert (batch.edges_BHW == 255).any()


def test_without_people_outlines_are_those_of_classes(make_dataset):
    (batch,) = batches(make_dataset(num_train=3, num_val=1))
    np.testing.assert_array_equal(batch.edges_BHW, np.stack([edges_from_labels(each) for each in batch.labels_BHW]))
    assert batches(make_dataset("other", num_train=3, num_val=1), edges=False)[0].edges_BHW is None


def test_people_that_cannot_be_read_are_named(people_dir, tmp_path):
    shutil.copytree(people_dir, tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    path = dataset.people_path(dataset.split("train")[0])
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=f"cannot train on `{path}`"):
        batches(dataset)


class Notes:
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)

    def start(self, num_steps, done):
        pass

    def step(self, info):
        pass


def test_a_short_run_learns_parts_and_outlines(people_dir, tmp_path):
    dataset = open_dataset(people_dir)
    changes = {
        "model_args": SMALL, "size": 64, "batch_size": 3, "optimizer": "adamw", "lr": 3e-3, "clip": 1.0,
        "schedule": "cosine", "epochs": 30, "val_every": 30, "augment": "none", "metric": "miou",
    }  # fmt: skip
    result = train(configure(PGN, changes), dataset, tmp_path / "run", CPU, graph=False, watcher=(notes := Notes()))
    records = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    losses = [record["train"] for record in records if "train" in record]
    assert losses[-1]["loss"] < 0.6 * losses[0]["loss"]
    assert losses[-1]["edge"] < 0.9 * losses[0]["edge"]
    assert not any("outlines" in text for text in notes.texts)
    network, config = load_network(result.run_dir, CPU)
    engine = TorchEngine(network, config.preprocess, CPU)
    samples = TrainingSamples(dataset, "train", config.preprocess, edges=True)
    (batch,) = epoch_batches(samples, configure(PGN, {"batch_size": 9, "augment": "none"}), 0, workers=0)
    _, extras = engine.with_extras(batch.pixels_BHWC)
    on, off = (extras["edge"][:, 0][batch.edges_BHW == value].mean() for value in (1, 0))
    assert on > off + 0.25


def test_a_run_whose_outlines_learn_nothing_says_so(people_dir, tmp_path):
    config = TrainConfig(model="pgn", model_args=SMALL, size=32, epochs=1, batch_size=6, val_every=1)
    train(config, open_dataset(people_dir), tmp_path / "run", CPU, graph=False, watcher=(notes := Notes()))
    assert "no loss trains the outlines of pgn: `--recipe pgn` does" in notes.texts


def test_the_recipe_builds_the_full_network():
    with torch.device("meta"):
        network = build(PGN.model, 20, **PGN.model_args)
    assert sum(parameter.numel() for parameter in network.parameters()) > 164_000_000
