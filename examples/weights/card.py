"""Write the model card of a bundle from what it says of itself, its scores, and notes.

    card.py BUNDLE SCORES NOTES > BUNDLE/README.md

SCORES are what `seglab evaluate --json` wrote for one dataset, NOTES a file of Markdown that says what no number does:
what was tried, where the network fails.
"""

import json
import sys
from pathlib import Path
from typing import Any


def card(bundle: Path, scores: dict[str, Any], notes: str) -> str:
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    height, width = config["preprocess"]["size_hw"]
    data, task = config["data"], config["task"]
    licence, terms = data["licence"], data["terms"].removesuffix(" See the model card.")
    counts = ", ".join(f"{count} {split}" for split, count in data["samples"].items())
    lines = [
        f"# {task['name']}: {task['title']}",
        "",
        f"`{config['model']}` at {height} x {width}, kernels in float16. Classes: {', '.join(task['classes'])}.",
        "",
        f"Dataset of the last stage: {counts} photos, sha256 of its list `{data['digest'][:16]}`.",
        "",
        f"## Scores on `{scores['input']['split']}`",
        "",
        f"{scores['num_images']} photos at their own size, {len(scores['failures'])} failed; in brackets 95 % "
        "intervals by bootstrap over the photos.",
        "",
        "| metric | value |",
        "| --- | --- |",
        *(f"| {name} | {value(scores, name)} |" for name in ("miou", "miou_foreground", "pixel_accuracy")),
        *(
            f"| iou.{name} | {one['iou']:.3f}{interval(scores, f'iou.{name}')} |"
            for name, one in scores["classes"].items()
        ),
        *(f"| f1.{name} | {one['f1']:.3f} |" for name, one in scores["regions"].items()),
        "",
        notes.strip(),
        "",
        "## Terms",
        "",
        f"{licence[0].upper()}{licence[1:]}. Commercial use: {data['commercial']}. {terms}",
    ]
    return "\n".join(lines) + "\n"


def value(scores: dict[str, Any], name: str) -> str:
    return f"{scores[name]:.3f}{interval(scores, name)}"


def interval(scores: dict[str, Any], name: str) -> str:
    found = scores["intervals"].get(name)
    return f" ({found[0]:.3f} to {found[1]:.3f})" if found else ""


if __name__ == "__main__":
    bundle, scores, notes = map(Path, sys.argv[1:])
    print(card(bundle, json.loads(scores.read_text(encoding="utf-8")), notes.read_text(encoding="utf-8")), end="")
