"""``evaluate`` with contours, views, parts, baselines and protocols, and ``compare``, as a user meets them."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seglab.cli import main
from seglab.data.images import write_labels

TASK = (
    'name = "abc"\nclasses = ["none", "a", "b", "c"]\n[regions]\nab = ["a", "b"]\n'
    '[levels]\ntop = ["ab"]\nfine = ["a", "b", "c"]\n'
)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command line in this process; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments)])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def masks(tmp_path, seen, truths):
    """Predictions ``pred`` and worse ones ``worse``, with their truth."""
    rng = np.random.default_rng(7)
    worse = {name: np.where(rng.random(of.shape) < 0.3, 3, of).astype(np.uint8) for name, of in seen.items()}
    for folder, several in (("pred", seen), ("gt", truths), ("worse", worse)):
        (tmp_path / folder).mkdir()
        for name, labels in several.items():
            write_labels(tmp_path / folder / f"{name}.png", labels)
    (tmp_path / "abc.toml").write_text(TASK)
    rest = ("--gt", "gt", "--task", "abc.toml")
    return SimpleNamespace(good=("evaluate", "--pred", "pred", *rest), bad=("evaluate", "--pred", "worse", *rest))


def test_intervals_are_told_and_written(run, masks, tmp_path):
    code, out, err = run(*masks.good, "--json", "--out", "scores")
    values = json.loads(out)
    assert code == 0
    assert values == json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    low, high = values["intervals"]["miou"]
    assert low < values["miou"] < high
    assert f"miou {values['miou']:.4f}  95 % {low:.3f}..{high:.3f}" in err
    rows = {
        row["metric"]: row for row in csv.DictReader((tmp_path / "scores" / "metrics.csv").read_text().splitlines())
    }
    assert float(rows["iou.ab"]["value"]) == pytest.approx(values["regions"]["ab"]["iou"], abs=1e-6)
    assert float(rows["miou"]["low"]) == pytest.approx(low, abs=1e-6)
    assert len(list(csv.DictReader((tmp_path / "scores" / "per_image.csv").read_text().splitlines()))) == 5


def test_contours_are_scored_on_request_only(run, masks):
    _, out, err = run(*masks.good, "--json")
    assert json.loads(out)["outlines"] == {}
    assert "boundary" not in err
    code, out, err = run(*masks.good, "--json", "--boundary", "--fail-under", "boundary_f1.a=0.999")
    values = json.loads(out)
    assert code == 1
    assert 0 < values["outlines"]["a"]["boundary_iou"] < 1
    assert "boundary IoU" in err
    assert "missed: boundary_f1.a" in err
    assert run(*masks.good, "--fail-under", "boundary_f1.a=0.5")[0] == 2


def test_parts_make_the_whole(run, masks, tmp_path):
    _, whole, _ = run(*masks.good, "--boundary", "--json")
    for part in (1, 2):
        code, out, _ = run(*masks.good, "--boundary", "--json", "--shard", f"{part}/2")
        assert code == 0
        assert json.loads(out)["shard"] == {"index": part, "num": 2}
        (tmp_path / f"part{part}.json").write_text(out)
    code, merged, _ = run("evaluate", "--merge", "part1.json", "part2.json", "--json")
    whole, merged = json.loads(whole), json.loads(merged)
    assert code == 0
    assert merged == whole
    code, _, err = run("evaluate", "--merge", "part2.json")
    assert code == 3
    assert "part `1/2` is missing" in err
    assert run("evaluate", "--merge", "part1.json", "part2.json", "--boundary")[0] == 2
    code, _, err = run("evaluate", "--merge", "part1.json", "part2.json", "--fail-under", "ap_r=0.5")
    assert code == 2
    assert "`ap_r`" in err  # nobody looked at people; that a bar was set is no option of counting
    assert run("evaluate", "--merge", "part1.json", "part1.json")[0] == 3
    assert run("evaluate", "part1.json")[0] == 2
    assert run("evaluate", "--merge")[0] == 2
    assert run("evaluate", "--merge", "part1.json", "--data", "x")[0] == 2


def test_a_worse_baseline(run, masks, tmp_path):
    _, out, _ = run(*masks.bad, "--json")
    (tmp_path / "worse.json").write_text(out)
    code, out, err = run(*masks.good, "--baseline", "worse.json", "--json")
    values = json.loads(out)
    entry = values["baseline"]["differences"]["miou"]
    assert code == 0
    assert values["baseline"]["num_shared"] == 5
    assert entry["difference"] == pytest.approx(
        values["miou"] - json.loads((tmp_path / "worse.json").read_text())["miou"]
    )
    assert entry["low"] > 0
    assert entry["significant"] is True
    assert f"vs baseline {entry['difference']:+.4f}*" in err
    assert run(*masks.good, "--baseline", "abc.toml")[0] == 3
    assert "the truth of" not in err
    assert values["baseline"]["num_other_truth"] == 0


def test_a_baseline_of_another_truth_under_the_same_names(run, masks, tmp_path, truths):
    (tmp_path / "before.json").write_text(run(*masks.good, "--json")[1])
    for name in ("p2", "p5"):
        write_labels(tmp_path / "gt" / f"{name}.png", np.where(truths[name] == 1, 2, truths[name]).astype(np.uint8))
    code, out, err = run(*masks.good, "--baseline", "before.json", "--json")
    assert code == 0
    assert json.loads(out)["baseline"]["num_other_truth"] == 2
    assert "the truth of 2 of the 5 images differs from that of the baseline: other masks, another size" in err
    (tmp_path / "after.json").write_text(out)
    _, out, err = run("compare", "before.json", "before.json", "after.json", "--json", "--metric", "miou")
    assert [one.get("num_other_truth") for one in json.loads(out)["runs"]] == [None, 0, 2]
    assert "C  the truth of 2 of the 5 images differs from that of A" in err


def test_a_baseline_of_other_images(run, masks, tmp_path):
    _, out, _ = run(*masks.bad, "--json", "--shard", "1/2")
    (tmp_path / "part.json").write_text(out)
    code, _, err = run(*masks.good, "--baseline", "part.json")
    assert code == 0
    assert "compared on the 3 images that both scored, of 5 here and 3 in the baseline" in err


def test_compare(run, masks, tmp_path):
    for name, arguments in (("a", masks.bad), ("b", masks.good)):
        (tmp_path / f"{name}.json").write_text(run(*arguments, "--json")[1])
    code, out, err = run("compare", "a.json", "b.json", "--json", "--metric", "miou", "--metric", "iou.ab")
    values = json.loads(out)
    assert code == 0
    assert [run["file"] for run in values["runs"]] == ["a.json", "b.json"]
    assert list(values["runs"][1]["differences"]) == ["miou", "iou.ab"]
    first, second = (run["scores"]["miou"] for run in values["runs"])
    assert values["runs"][1]["differences"]["miou"]["difference"] == pytest.approx(second - first)
    assert f"{second:.4f} {second - first:+.4f}*" in err
    assert run("compare", "a.json")[0] == 2
    assert run("compare", "a.json", "b.json", "--metric", "iou.zz")[0] == 2
    assert run("compare", "a.json", "gt")[0] == 3


@pytest.mark.parametrize("name", ["helen", "cihp", "readme"])
def test_protocols(run, masks, name):
    code, out, err = run(*masks.good, "--protocol", name, "--json")
    values = json.loads(out)
    assert code == 0
    assert values["protocol"]["name"] == name
    expected = {
        "helen": {group: values["classes" if group in values["classes"] else "regions"][group]["f1"]
                  for group in ("none", "a", "b", "c", "ab")},
        "cihp": {metric: values[metric] for metric in ("miou", "pixel_accuracy", "mean_accuracy")},
        "readme": {"miou": values["miou"], **{name: level["iou"] for name, level in values["levels"].items()}},
    }[name]  # fmt: skip
    assert values["protocol"]["scores"] == pytest.approx(expected, abs=1e-12)
    assert f"protocol {name}:" in err


def test_a_protocol_of_another_task_is_refused(run, masks):
    code, _, err = run(*masks.good, "--protocol", "pascal-part-original")
    assert code == 2
    assert "is not made for task `abc`" in err
    assert run(*masks.good, "--protocol", "helne")[0] == 2


def test_the_published_protocol_from_masks(run, tmp_path):
    from tests.evaluation.test_protocols import FIGURES, GOLDEN

    with np.load(GOLDEN / "metric_maps.npz") as maps:
        for folder in ("gt", "pred"):
            (tmp_path / folder).mkdir()
            for number, labels in enumerate(maps[f"pascal_{folder}"]):
                write_labels(tmp_path / folder / f"{number}.png", labels)
    code, out, _ = run(
        "evaluate", "--pred", "pred", "--gt", "gt", "--task", "body", "--protocol", "pascal-part-original", "--json"
    )
    published = {name: of for name, of in FIGURES["pascal_part_legacy"].items() if name != "per_image"}
    assert code == 0
    assert json.loads(out)["protocol"]["scores"] == pytest.approx(published, abs=1e-12, rel=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "grid"], "neither photo nor model"),
        (["--at", "model"], "--at model needs a model"),
        (["--shard", "3/2"], "there is no part `3/2`"),
        (["--tta", "flop"], "`flop`"),
        (["--tta", "flip"], "masks are scored as they are"),
        (["--fidelity", "original"], "masks are scored as they are"),
        (["--bn", "batch"], "masks are scored as they are"),
    ],
)
def test_wrong_options(run, masks, arguments, message):
    code, out, err = run(*masks.good, *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_report_of_masks(run, masks, tmp_path):
    (tmp_path / "worse.json").write_text(run(*masks.bad, "--json")[1])
    code, _, err = run(*masks.good, "--report", "report.html", "--baseline", "worse.json", "--fail-under", "miou=0.99")
    page = (tmp_path / "report.html").read_text()
    assert code == 1
    assert "report: report.html" in err
    for word in ("worse.json", "p3", "data:image/", "iou"):
        assert word in page
    assert "https://" not in page.replace("http://www.w3.org/", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--protocol", "nope"], 2, "no protocol is called `nope`"),
        (["--protocol", "pascal-part-original"], 2, "is not made for task `abc`"),
        (["--baseline", "other.json"], 3, "cannot be compared"),
        (["--out", "abc.toml"], 3, "`abc.toml` is a file"),
        (["--report", "gt"], 3, "`gt` is a folder"),
        (["--per-image", "gt"], 3, "`gt` is a folder"),
        (["--per-image", "abc.toml/x.csv"], 3, "`abc.toml` is a file"),
    ],
)
def test_what_cannot_come_to_an_end_is_refused_before_any_work(run, masks, tmp_path, arguments, code, message):
    (tmp_path / "other.toml").write_text('name = "other"\nclasses = ["none", "a", "b", "d"]\n')
    _, out, _ = run("evaluate", "--pred", "pred", "--gt", "gt", "--task", "other.toml", "--json")
    (tmp_path / "other.json").write_text(out)
    (tmp_path / "gt" / "p1.png").write_bytes(b"")  # found out only while scoring
    assert run(*masks.good)[0] == 3
    ended, out, err = run(*masks.good, *arguments)
    assert (ended, out) == (code, "")
    assert message in err
    assert "cannot be scored" not in err


def test_a_folder_without_permission_is_refused_before_any_work(run, masks, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: tmp_path not in (Path(path), *Path(path).parents))
    (tmp_path / "gt" / "p1.png").write_bytes(b"")
    code, _, err = run(*masks.good, "--out", tmp_path / "new" / "scores")
    assert code == 3
    assert "cannot write into" in err
    assert not (tmp_path / "new").exists()
