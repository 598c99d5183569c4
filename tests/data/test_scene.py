"""Synthetic scenes: the names are where they belong, and the same arguments give the same bytes."""

import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seglab.data import scene as scenes
from seglab.data.scene import ANATOMY, COVERING, VIEWS, Scene, draw_scene, labels_for
from seglab.data.scene.canvas import Canvas, Material, Pattern, part
from seglab.data.scene.shapes import Frame, box, ellipse, limb, smooth
from seglab.errors import DataError, UsageError
from seglab.tasks import TASKS, SynthSpec, Task

ROOT = Path(__file__).parents[2]
NUM = 60
HEAD_PARTS = ("left_brow", "right_brow", "left_eye", "right_eye", "nose", "upper_lip", "inner_mouth", "lower_lip")


@functools.cache
def drawn(view: str) -> list[Scene]:
    return [draw_scene(7, index, view, (96, 96)) for index in range(NUM)]


def where(scene: Scene, *names: str) -> np.ndarray:
    return np.isin(scene.anatomy, [ANATOMY.index(name) for name in names])


def center(mask: np.ndarray) -> np.ndarray:
    """Mean (y, x)."""
    return np.argwhere(mask).mean(axis=0)


def digest(scene: Scene) -> str:
    parts = (scene.image, scene.anatomy, scene.covering, scene.persons)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize("view", VIEWS)
class TestEveryScene:
    def test_has_arrays_of_one_size(self, view):
        scene = draw_scene(0, 0, view, (40, 56))
        assert scene.image.shape == (40, 56, 3)
        assert scene.anatomy.shape == scene.covering.shape == scene.persons.shape == (40, 56)
        assert {scene.image.dtype, scene.anatomy.dtype, scene.covering.dtype} == {np.dtype(np.uint8)}

    def test_names_every_pixel_of_a_person_and_no_other(self, view):
        for scene in drawn(view):
            assert scene.anatomy.max() < len(ANATOMY)
            assert scene.covering.max() < len(COVERING)
            assert ((scene.anatomy > 0) == (scene.persons > 0)).all()
            assert not (scene.covering[scene.anatomy == 0]).any()

    def test_covers_bodies_and_leaves_faces_and_hair_bare(self, view):
        bare, glasses = 0, COVERING.index("glasses")
        for scene in drawn(view):
            face = where(scene, "face", "hair", *HEAD_PARTS)
            assert set(np.unique(scene.covering[face])) <= {bare, glasses}
            body = where(scene, "neck", "torso", "upper_arm", "lower_arm", "upper_leg", "lower_leg")
            assert not (scene.covering[body] == bare).any()
            assert ((scene.anatomy == ANATOMY.index("hat")) >= (scene.covering == COVERING.index("hat"))).all()

    def test_shows_everybody(self, view):
        for scene in drawn(view):
            counts = np.bincount(scene.persons.ravel(), minlength=scene.num_persons + 1)
            assert len(counts) == scene.num_persons + 1
            assert counts[1:].min() >= 0.01 * scene.persons.size

    def test_is_the_same_again_and_unlike_all_others(self, view):
        again = {digest(draw_scene(7, index, view, (96, 96))) for index in range(8)}
        assert again == {digest(scene) for scene in drawn(view)[:8]}
        others = [draw_scene(seed, index, view, (96, 96)) for seed, index in ((7, 8), (8, 0), (8, 7))]
        assert len(again | {digest(scene) for scene in others}) == 11

    def test_is_the_same_in_another_process_with_other_threads_and_hash_seed(self, view):
        code = (
            "import sys, hashlib, random, numpy as np, cv2\n"
            "cv2.setNumThreads(int(sys.argv[2])); np.random.seed(3); random.seed(3)\n"
            "from seglab.data.scene import draw_scene\n"
            "for i in range(6):\n"
            "    s = draw_scene(7, i, sys.argv[1], (96, 96))\n"
            "    arrays = (s.image, s.anatomy, s.covering, s.persons)\n"
            "    print(hashlib.sha256(b''.join(a.tobytes() for a in arrays)).hexdigest())\n"
        )
        expected = [digest(scene) for scene in drawn(view)[:6]]
        for threads in ("1", "4"):
            done = subprocess.run(
                [sys.executable, "-c", code, view, threads],
                env={**os.environ, "PYTHONHASHSEED": threads, "OMP_NUM_THREADS": threads},
                cwd=ROOT, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert done.stdout.split() == expected

    def test_has_labels_sampled_at_pixel_centres(self, view):
        """At a third of the size, pixel i has the centre that pixel 3 i + 1 had: the same point, the same name."""
        for index in range(6):
            small, large = (draw_scene(3, index, view, size) for size in ((64, 80), (192, 240)))
            if small.num_persons == large.num_persons:
                assert np.mean(small.anatomy == large.anatomy[1::3, 1::3]) > 0.96

    def test_is_not_flat(self, view):
        for scene in drawn(view)[:20]:
            assert scene.image.std(axis=(0, 1)).min() > 8
            assert len(np.unique(scene.image.reshape(-1, 3), axis=0)) > 500

    @pytest.mark.parametrize("size_hw", [(16, 16), (24, 90), (90, 24), (33, 47)])
    def test_fits_any_shape(self, view, size_hw):
        for index in range(4):
            scene = draw_scene(1, index, view, size_hw)
            assert scene.image.shape == (*size_hw, 3)
            assert 0.02 < np.mean(scene.anatomy > 0) < 0.9


class TestPortrait:
    def test_left_is_left_of_right(self):
        pairs = 0
        for scene in drawn("portrait"):
            for name in ("eye", "brow"):
                left, right = where(scene, f"left_{name}"), where(scene, f"right_{name}")
                assert name == "brow" or (left.any() and right.any())
                if left.any() and right.any():
                    assert center(left)[1] + 4 < center(right)[1]
                    pairs += 1
        assert pairs > 1.9 * NUM

    def test_is_still_so_when_flipped_with_the_mirror_permutation(self):
        task = TASKS["face"]
        swap = np.array(task.mirror_permutation(), np.uint8)
        for scene in drawn("portrait")[:20]:
            flipped = swap[labels_for(scene, task)[:, ::-1]]
            left, right = flipped == task.index("le"), flipped == task.index("re")
            assert center(left)[1] < center(right)[1]
            unswapped = labels_for(scene, task)[:, ::-1]
            assert center(unswapped == task.index("le"))[1] > center(unswapped == task.index("re"))[1]

    def test_features_lie_inside_the_head_in_their_order(self):
        for scene in drawn("portrait"):
            head = np.argwhere(where(scene, "face"))
            (top, left), (bottom, right) = head.min(axis=0), head.max(axis=0)
            for name in HEAD_PARTS:
                for y, x in np.argwhere(where(scene, name)):
                    assert top - 4 <= y <= bottom + 4
                    assert left - 4 <= x <= right + 4
            eyes, nose = center(where(scene, "left_eye", "right_eye")), center(where(scene, "nose"))
            upper, lower = center(where(scene, "upper_lip")), center(where(scene, "lower_lip"))
            assert eyes[0] < nose[0] < upper[0] < lower[0] < bottom

    def test_one_face_fills_the_picture(self):
        for scene in drawn("portrait"):
            assert scene.num_persons == 1
            assert 0.2 < np.mean(scene.anatomy > 0) < 0.8
            assert np.mean(where(scene, "face", "hair", "hat", *HEAD_PARTS)) > 0.12

    def test_mouths_open_and_close(self):
        opened = sum(where(scene, "inner_mouth").any() for scene in drawn("portrait"))
        assert NUM * 0.25 < opened < NUM * 0.75


class TestFigure:
    def test_one_to_three_people(self):
        assert {scene.num_persons for scene in drawn("figure")} == {1, 2, 3}

    def test_people_have_a_sane_share_of_the_picture(self):
        shares = [np.mean(scene.anatomy > 0) for scene in drawn("figure")]
        assert min(shares) > 0.04
        assert max(shares) < 0.75
        assert 0.15 < np.median(shares) < 0.45

    def test_heads_are_above_torsos(self):
        for scene in drawn("figure"):
            for person in range(1, scene.num_persons + 1):
                head = where(scene, "face", "hair", "hat", *HEAD_PARTS) & (scene.persons == person)
                torso = where(scene, "torso") & (scene.persons == person)
                if head.sum() > 20 and torso.sum() > 20:
                    assert center(head)[0] < center(torso)[0]

    def test_colour_alone_does_not_tell_people_from_what_is_around_them(self):
        """A lookup of the commonest owner of every colour, learned on other scenes, misses most of the people."""
        owner = np.zeros((8, 8, 8, 2), np.int64)
        first, second = drawn("figure")[: NUM // 2], drawn("figure")[NUM // 2 :]
        for scene in first:
            red, green, blue = (scene.image >> 5).reshape(-1, 3).T
            np.add.at(owner, (red, green, blue, (scene.anatomy > 0).ravel().astype(int)), 1)
        hits = union = 0
        for scene in second:
            red, green, blue = (scene.image >> 5).reshape(-1, 3).T
            guess, truth = owner[red, green, blue].argmax(axis=1) == 1, (scene.anatomy > 0).ravel()
            hits, union = hits + np.sum(guess & truth), union + np.sum(guess | truth)
        assert hits / union < 0.45


class TestLabels:
    @pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
    def test_equal_a_brute_force_reading_of_the_spec(self, task):
        scene = draw_scene(5, 3, task.synth.view, (48, 48))
        labels = labels_for(scene, task)
        for y, x in np.ndindex(48, 48):
            names = {ANATOMY[scene.anatomy[y, x]], COVERING[scene.covering[y, x]]} - {""}
            names |= {"person"} if ANATOMY[scene.anatomy[y, x]] else set()
            claims = [name for name in task.classes if names & set(task.synth.parts.get(name, ()))]
            assert task.classes[labels[y, x]] == (claims[-1] if claims else task.classes[0])

    @pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
    def test_show_every_class_within_a_few_dozen_scenes(self, task):
        seen = np.zeros(task.num_classes, int)
        for scene in drawn(task.synth.view)[:36]:
            seen += np.bincount(labels_for(scene, task).ravel(), minlength=task.num_classes) > 3
        assert len(seen) == task.num_classes
        assert seen.min() >= 3, dict(zip(task.classes, seen, strict=True))

    def test_show_every_name_of_both_tables(self):
        both = [*drawn("figure"), *drawn("portrait")]
        assert {int(v) for scene in both for v in np.unique(scene.anatomy)} == set(range(len(ANATOMY)))
        assert {int(v) for scene in both for v in np.unique(scene.covering)} == set(range(len(COVERING)))

    def test_later_class_wins(self):
        scene = draw_scene(0, 0, "figure", (48, 48))
        task = Task("two", ("none", "all", "head"), synth=SynthSpec("figure", {"all": ("person",), "head": ("face",)}))
        labels = labels_for(scene, task)
        assert (labels[where(scene, "face")] == 2).all()
        assert (labels[(scene.anatomy > 0) & ~where(scene, "face")] == 1).all()

    def test_refuse_a_task_that_says_nothing(self):
        with pytest.raises(DataError, match="`hands` does not say how synthetic scenes are labelled"):
            labels_for(drawn("figure")[0], Task("hands", ("none", "hand")))

    def test_refuse_unknown_names_and_list_the_known_ones(self):
        task = Task("odd", ("none", "a"), synth=SynthSpec("figure", {"a": ("paw", "face", "tail")}))
        with pytest.raises(DataError, match="no part of a synthetic person is called `paw`, `tail`") as error:
            labels_for(drawn("figure")[0], task)
        assert all(name in error.value.hint for name in (*ANATOMY, *COVERING, "person"))

    def test_refuse_an_unknown_view(self):
        with pytest.raises(DataError, match="there is no view `above`"):
            scenes.check_synth(Task("odd", ("none", "a"), synth=SynthSpec("above", {"a": ("face",)})))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-1, 0, "figure", (64, 64)), "seed `-1`"),
        ((0, -2, "figure", (64, 64)), "index `-2`"),
        ((0, 0, "figure", (15, 64)), "size `15x64`"),
        ((0, 0, "figure", (64, 9000)), "size `64x9000`"),
    ],
)
def test_impossible_numbers_are_refused(arguments, text):
    with pytest.raises(UsageError, match=text):
        draw_scene(*arguments)


class TestCanvas:
    OWNER, PAINT = part("torso", "top"), Material((200, 100, 50))

    @pytest.mark.parametrize("edge", [3.1, 3.4, 3.6, 3.9, 7.25])
    def test_labels_follow_pixel_centres_and_colours_the_covered_share(self, edge):
        canvas = Canvas((16, 16))
        canvas.paint(box(-1, -1, edge / 16, 2), self.OWNER, self.PAINT, 10)
        anatomy, covering = canvas.labels()
        inside = np.arange(16) + 0.5 <= edge
        certain = np.abs(np.arange(16) + 0.5 - edge) > 0.26
        assert (anatomy[:, certain] == np.where(inside, part("torso")[0], 0)[certain]).all()
        assert ((anatomy > 0) == (covering == COVERING.index("top"))).all()
        assert abs(canvas.alpha()[8].sum() - edge) < 0.51

    def test_a_disc_is_centred(self):
        for x, y in ((8, 8), (7.5, 8.5), (8.25, 7.75)):
            canvas = Canvas((16, 16))
            canvas.paint(ellipse((x / 16, y / 16), 5 / 16, 5 / 16, num=64), self.OWNER, self.PAINT, 10)
            weight = canvas.alpha()
            rows, columns = np.mgrid[:16, :16] + 0.5
            assert abs((weight * columns).sum() / weight.sum() - x) < 0.15
            assert abs((weight * rows).sum() / weight.sum() - y) < 0.15

    def test_cover_keeps_the_anatomy(self):
        canvas = Canvas((8, 8))
        canvas.person = 1
        canvas.paint(box(0, 0, 0.5, 1), part("left_eye"), self.PAINT, 10)
        canvas.cover(box(0.25, 0.25, 0.75, 0.75), "glasses", Material((0, 0, 0)), "face")
        anatomy, covering = canvas.labels()
        assert ANATOMY[anatomy[4, 2]] == "left_eye"
        assert COVERING[covering[4, 2]] == "glasses"
        assert ANATOMY[anatomy[4, 5]] == "face"
        assert anatomy[0, 7] == covering[0, 7] == 0
        assert canvas.persons()[4, 5] == 1

    def test_shapes_out_of_view_leave_no_trace(self):
        canvas = Canvas((8, 8))
        canvas.paint(box(2, 2, 3, 3), self.OWNER, self.PAINT, 10)
        canvas.cover(box(-3, -3, -2, -2), "glasses", self.PAINT, "face")
        assert not canvas.labels()[0].any()

    @pytest.mark.parametrize(
        "kind", ["stripes", "checks", "dots", "bricks", "windows", "ramp", "folds", "strands", "mottle"]
    )
    def test_patterns_mix_their_two_colours(self, kind):
        canvas = Canvas((32, 32))
        cloth = Material((0, 0, 0), Pattern(kind, (240, 240, 240), 0.3, share=1.0))
        canvas.paint(box(-1, -1, 2, 2), self.OWNER, cloth, 10)
        grey = canvas.albedo()
        assert grey.min() < 80
        assert grey.max() > 160

    def test_too_many_materials_are_an_error_not_a_wrong_colour(self):
        canvas = Canvas((8, 8))
        for grey in range(255):
            canvas.paint(box(0, 0, 1, 1), self.OWNER, Material((grey, 0, 0)), 10)
        assert canvas.albedo()[4, 4].tolist() == [254, 0, 0]
        with pytest.raises(ValueError, match="at most 256 materials"):
            canvas.paint(box(0, 0, 1, 1), self.OWNER, Material((255, 0, 0)), 10)


class TestShapes:
    def test_frames_nest(self):
        outer = Frame((10, 20), 2, np.pi / 2)
        inner = outer.child((1, 0), 3, 0)
        assert np.allclose(outer.at((1, 0)), (10, 22))
        assert np.allclose(inner.at((1, 0)), (10, 28))

    def test_smooth_curves_pass_through_their_points(self):
        square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
        curve = smooth(square, 5)
        assert curve.shape == (20, 2)
        assert np.allclose(curve[::5], square)

    def test_limbs_reach_their_ends_and_width(self):
        outline = limb((0, 0), (0, 10), (1.0, 2.0, 1.0))
        assert np.allclose(outline.max(axis=0), (1.75, 11), atol=0.3)
        assert np.allclose(outline.min(axis=0), (-1.75, -1), atol=0.3)
        assert limb((0, 0), (0, 10), (1.0, 1.0), span=(0, 0.5), cut=True).max(axis=0)[1] == pytest.approx(5)
