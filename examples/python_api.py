#!/usr/bin/env python3
"""seglab from Python: one photo in any form, many photos lazily, cutouts, and the masks of the original Pix2Pix.

Usage: examples/python_api.py MODEL PHOTO [PHOTO ...]    (writes into the current folder)
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import seglab


def one_photo(predictor: seglab.Predictor, path: Path) -> None:
    result = predictor(path)  # or its bytes, a NumPy array (H, W, 3) of uint8 RGB, or a Pillow image
    height, width = result.size_hw
    print(f"{path.name}: {width} x {height}")
    for name, area in result.areas.items():
        print(f"  {name}: {area.share:.1%} at {area.box.left},{area.box.top}")
    assert result.labels.shape == (height, width)  # class ids
    assert result.probs.shape == (result.task.num_classes, height, width)  # float32, 0..1
    assert result.alpha.shape == (height, width)  # float32, 0..1, edges as the photo's own
    Image.fromarray(result.overlay(legend=True)).save("overlay.png")
    result.save_labels("labels.png")


def cutouts(predictor: seglab.Predictor, path: Path) -> None:
    result = predictor(path)
    rgba = result.cutout()  # (H, W, 4) uint8
    on_white = result.cutout(background="white", edge="feather:4")  # (H, W, 3)
    assert rgba.shape[2] == 4
    assert on_white.shape[2] == 3
    result.save_cutout("portrait.webp", crop=True, margin="5%", square=True, size="256")
    result.save_cutout("call.jpg", background="blur:20")  # colour profile and resolution are kept


def many_photos(predictor: seglab.Predictor, paths: list[Path]) -> None:
    # Read ahead in threads and never all in memory; a photo that cannot be read is a value in its place.
    for path, result in zip(paths, predictor.batch(paths, on_error="yield"), strict=True):
        if isinstance(result, seglab.SeglabError):
            print(f"{path.name}: {result.message}")
        else:
            print(f"{path.name}: {'somebody' if result.found else 'nobody'}")


def pixels(predictor: seglab.Predictor, path: Path) -> None:
    array = np.asarray(Image.open(path).convert("RGB"))
    flipped = predictor(np.ascontiguousarray(array[:, ::-1]))
    Image.fromarray(flipped.mask().astype(np.uint8) * 255).save("flipped.png")


def as_the_original_pix2pix(predictor: seglab.Predictor, path: Path) -> None:
    import torch

    mask = seglab.get_mask(path, predictor)  # (1, 1, H, W), tanh within -1..1
    image = torch.from_numpy(predictor(path).image.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    masked = seglab.add_mask(image, mask)  # (1, 3, H, W) within 0..1, black around
    Image.fromarray((masked[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()).save("masked.png")


def main() -> None:
    predictor = seglab.load(sys.argv[1], device="cpu")
    paths = [Path(name) for name in sys.argv[2:]]
    one_photo(predictor, paths[0])
    cutouts(predictor, paths[0])
    many_photos(predictor, paths)
    pixels(predictor, paths[0])
    if predictor.task.num_classes == 2:
        as_the_original_pix2pix(predictor, paths[0])


if __name__ == "__main__":
    main()
