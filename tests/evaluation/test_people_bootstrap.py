"""Bootstrap over how people are told apart: each drawn set scores as if its images had been given so often."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from seglab.cli import main
from seglab.evaluation.bootstrap import weights
from seglab.evaluation.comparison import against, selected, totals
from seglab.evaluation.confusion import confusion
from seglab.evaluation.people import Found, compare_people, score_people
from seglab.evaluation.people_bootstrap import people_differences, people_drawn, people_intervals
from seglab.evaluation.record import to_record
from seglab.evaluation.result import Comparison, Tally
from seglab.tasks import Task
from tests.evaluation.test_edges import scene
from tests.evaluation.test_parts import K, changed, picture

TASK = Task(name="quartet", classes=("none", "one", "two", "three"))


def evaluated(seed, num=12, *, truth_seed=1):
    """Return an evaluation of made-up people; what is predicted depends on the seed, and no two scores are equal."""
    truths, rng = np.random.default_rng(truth_seed), np.random.default_rng(seed)
    tally = Tally(TASK)
    for number in range(num):
        labels, people = picture(truths)
        prediction, ids, scores = changed(rng, labels, people)
        scores = {key: float(rng.random()) for key in scores}
        edges = scene(int(rng.integers(99)), labels.shape)[1]
        told = compare_people(labels, people, prediction, Found(ids, scores, edges), TASK)
        compared = Comparison(confusion(labels, prediction, K), 0, people=None if number == 5 else told)
        tally.add(f"i{number:02}", compared)
    return tally.finish(people=True)


def test_a_drawn_set_scores_as_its_images():
    evaluation = evaluated(1)
    drawn = people_drawn(evaluation.people, TASK, num_sets=20)
    (sets_RN,) = weights(evaluation.num_images, 20)
    for row, times_N in enumerate(sets_RN.astype(int).tolist()):
        images = [
            image
            for image, times in zip(evaluation.people, times_N, strict=True)
            for _ in range(times)
            if image is not None
        ]
        expected = score_people(images, TASK).values()
        assert set(expected) == set(drawn)
        for name, figure in expected.items():
            np.testing.assert_allclose(drawn[name][row], figure, rtol=0, atol=1e-12, err_msg=name)
    assert 0 < drawn["ap_r"].std() < 0.2


def test_large_sets_are_drawn_in_bands_and_of_many_parts_fewer(monkeypatch):
    people = evaluated(1).people
    whole = people_drawn(people, TASK, num_sets=150)
    monkeypatch.setattr("seglab.evaluation.people_bootstrap._AT_ONCE", 5000)
    for name, values in people_drawn(people, TASK, num_sets=150).items():
        np.testing.assert_array_equal(values, whole[name])
    seen = []
    monkeypatch.setattr("seglab.evaluation.people_bootstrap.MOST_WORK", 0)
    monkeypatch.setattr(
        "seglab.evaluation.people_bootstrap.people_drawn",
        lambda *_, num_sets: seen.append(num_sets) or {"ap_r": np.zeros(num_sets)},
    )
    people_intervals(people, TASK)
    assert seen == [200]


def test_intervals_hold_the_scores_of_all_images():
    evaluation = evaluated(2)
    values = evaluation.scores.people.values()
    ranges = people_intervals(evaluation.people, TASK, num_sets=300)
    assert set(ranges) == set(values)
    for name in ("edge_f1", "edge_precision", "edge_recall", "ap_r", "ap_p"):
        assert ranges[name].low < values[name] < ranges[name].high
    assert set(people_intervals(evaluation.people[:1], TASK, num_sets=50).values()) == {None}
    assert set(people_intervals([None] * 4, TASK, num_sets=50).values()) == {None}


def test_pairs_tell_differences():
    first, second = evaluated(2), evaluated(3)
    told = people_differences(first.people, second.people, TASK, num_sets=300)
    ours, theirs = first.scores.people.values(), second.scores.people.values()
    for name, change in told.items():
        assert change.difference == pytest.approx(ours[name] - theirs[name])
        assert change.low <= change.difference <= change.high or not name.startswith("edge_")
    same = people_differences(first.people, first.people, TASK, num_sets=100)
    assert {change.difference for change in same.values()} == {0}
    assert not any(change.significant for change in same.values())
    with pytest.raises(ValueError, match="people of 12 and 3 images"):
        people_differences(first.people, first.people[:3], TASK)


def test_comparison_of_evaluations():
    first, second = evaluated(2), evaluated(3)
    compared = against(first, second)
    assert compared.differences["ap_r"].difference == pytest.approx(
        first.scores.people.ap_r - second.scores.people.ap_r
    )
    kept = selected([first, second])
    assert totals(kept[0])["ap_r50"] == first.scores.people.ap_r50
    plain = Tally(TASK).finish()
    assert plain.people is None
    without = SimpleNamespace(**{**vars(second), "people": None, "num_images": second.num_images})
    assert "ap_r" not in against(first, without).differences
    assert "ap_r" not in totals(selected([first, without])[0])


def test_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name, seed in (("a", 2), ("b", 3)):
        (tmp_path / f"{name}.json").write_text(json.dumps(to_record(evaluated(seed)), allow_nan=False))

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert end.value.code == 0
        return capsys.readouterr()

    table = run("compare", tmp_path / "a.json", tmp_path / "b.json", "--json")
    runs = json.loads(table.out)["runs"]
    assert runs[0]["scores"]["ap_r"] == evaluated(2).scores.people.ap_r
    assert runs[1]["differences"]["edge_f1"]["p"] > 0
    assert "edge_f1" in table.err
    table = run("compare", tmp_path / "a.json", tmp_path / "b.json", "--metric", "ap_r.two", "--json")
    assert list(json.loads(table.out)["runs"][0]["scores"]) == ["ap_r.two"]
    merged = run(
        "evaluate", "--merge", tmp_path / "a.json", "--baseline", tmp_path / "b.json", "--json", "--out", tmp_path
    )
    values = json.loads(merged.out)
    low, high = values["intervals"]["ap_r"]
    assert low < values["people"]["ap_r"] < high
    assert values["baseline"]["differences"]["ap_r"]["difference"] != 0
    assert f"ap_r {values['people']['ap_r']:.4f}  95 % {low:.3f}..{high:.3f}  vs baseline" in merged.err
    row = next(line for line in (tmp_path / "metrics.csv").read_text().splitlines() if line.startswith("ap_r,"))
    assert row == f"ap_r,{values['people']['ap_r']:.6f},{low:.6f},{high:.6f}"
