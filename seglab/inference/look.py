"""What a cutout looks like: its edge, what lies under it, what of the photo it shows, and how it is written."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from seglab.errors import UsageError, unknown
from seglab.inference.backgrounds import Background, parse_background, parse_width
from seglab.inference.framing import WHOLE_PHOTO, Framing, parse_framing

__all__ = ["FORMATS", "Look", "parse_look"]

FORMATS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"png": (".png",), "webp": (".webp",), "jpg": (".jpg", ".jpeg")}
)
"""What ``--format`` takes, and the suffixes of such files, the usual one first."""
MAX_FEATHER: Final = 1000.0

Edge = Literal["soft", "hard", "feather"]


@dataclass(frozen=True)
class Look:
    """What a cutout looks like."""

    edge: Edge = "soft"
    """``soft`` follows the photo's own edges, ``hard`` is the mask of ``seglab predict``, ``feather`` fades it."""
    feather: float = 0.0
    """Width of a feathered edge in pixels."""
    background: Background | None = None
    """What lies under the cutout; None leaves it transparent."""
    keep: tuple[str, ...] = ()
    """Classes or regions of the task to keep; its foreground when empty."""
    invert: bool = False
    """Whether to keep everything else instead."""
    mask_only: bool = False
    """Whether to write the alpha as a grey picture rather than the photo."""
    threshold: float | None = None
    """Where a hard or feathered edge is: at this probability of the kept classes; None takes the likeliest class."""
    matting: bool = False
    """Whether a soft edge is found by closed-form matting rather than the guided filter."""
    decontaminate: bool = True
    """Whether the background's colour is taken out of pixels that are partly transparent."""
    framing: Framing = WHOLE_PHOTO
    """What of the photo is shown, and at what size."""
    format: str | None = None
    """A name in :data:`FORMATS`; None leaves it to the name of the output, and is PNG where that says nothing."""
    small: bool = False
    """Whether PNGs are made smaller, which takes several times as long."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files that it can be written to, the usual one first."""
        if self.format is not None:
            return FORMATS[self.format]
        return FORMATS["png"] if self.mask_only else tuple(suffix for form in FORMATS.values() for suffix in form)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides over outputs, as plain JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        background = self.background.settings if self.background is not None else None
        return {**values, "keep": list(self.keep), "background": background, "framing": asdict(self.framing)}


def parse_look(
    *,
    edge: str | None = None,
    background: str | Path | tuple[int, int, int] = "transparent",
    keep: str = "",
    invert: bool = False,
    mask_only: bool = False,
    threshold: float | None = None,
    matting: bool = False,
    decontaminate: bool | None = None,
    crop: bool = False,
    margin: str | None = None,
    square: bool = False,
    size: str | None = None,
    format: str | None = None,
    png: str | None = None,
) -> Look:
    """Build a look from text as on the command line.

    Args:
        edge: ``soft``, ``hard`` or ``feather:N``; soft by default, but hard with a threshold.
        background: See :func:`seglab.inference.backgrounds.parse_background`.
        keep: Class or region names with commas between; empty for the task's foreground.
        invert: See :class:`Look`.
        mask_only: See :class:`Look`.
        threshold: See :class:`Look`; more than 0 and less than 1.
        matting: See :class:`Look`.
        decontaminate: See :class:`Look`; True by default.
        crop: See :func:`seglab.inference.framing.parse_framing`, as for the next three.
        margin: Pixels or a share of the subject.
        square: Whether the picture is a square.
        size: ``WxH`` or one number.
        format: See :class:`Look`.
        png: ``fast`` (the default) or ``small``.

    Raises:
        UsageError: If one of them means nothing, or two contradict each other.
        DataError: If a background cannot be read.
    """
    kind, feather = _edge(edge if edge is not None else "soft" if threshold is None else "hard")
    if threshold is not None:
        _check_threshold(threshold, kind)
    if matting and kind != "soft":
        raise UsageError(f"`--matting` finds a soft edge, not a {kind} one", "leave out one of the two")
    if format is not None and format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if png not in (None, "fast", "small"):
        raise unknown("way of writing PNGs", str(png), ("fast", "small"))
    if png is not None and format not in (None, "png"):
        raise UsageError(
            f"`--png {png}` says how PNGs are written, but `--format {format}` writes none", "leave out one of them"
        )
    laid = parse_background(background)
    if mask_only:
        _check_mask_only(laid is not None, decontaminate is not None, format)
    if decontaminate and kind == "hard":
        raise UsageError(
            "`--decontaminate` cleans pixels that are partly transparent, and a hard edge has none",
            "`--edge soft`, or leave it out",
        )
    names = tuple(name.strip() for name in keep.split(",") if name.strip())
    if keep and not names:
        raise UsageError(
            f"`--keep {keep}` names no class", "classes or regions with commas between: `upper_body,full_body`"
        )
    framing = parse_framing(crop=crop, margin=margin, square=square, size=size)
    return Look(
        edge=kind, feather=feather, background=laid, keep=names, invert=invert, mask_only=mask_only,
        threshold=threshold, matting=matting, decontaminate=decontaminate is not False, framing=framing,
        format=format, small=png == "small",
    )  # fmt: skip


def _edge(text: str) -> tuple[Edge, float]:
    kind, _, width = text.partition(":")
    if kind == "feather":
        return "feather", parse_width("feather", width, most=MAX_FEATHER, example="4")
    if text == "soft" or text == "hard":
        return "soft" if text == "soft" else "hard", 0.0
    raise UsageError(f"no edge is called `{text}`", "known: soft, hard, feather:N with N pixels")


def _check_threshold(threshold: float, kind: Edge) -> None:
    if not 0 < threshold < 1:
        raise UsageError(f"`--threshold {threshold:g}` is no probability", "more than 0 and less than 1")
    if kind == "soft":
        raise UsageError("a soft edge has no `--threshold`", "`--edge hard`, or leave one of the two out")


def _check_mask_only(laid: bool, cleaned: bool, format: str | None) -> None:
    if laid:
        raise UsageError(
            "`--mask-only` writes no photo, so there is nothing to lay on a `--background`", "leave out one of the two"
        )
    if cleaned:
        raise UsageError("`--mask-only` writes no photo, so there are no colours to clean", "leave out one of the two")
    if format not in (None, "png"):
        raise UsageError(f"`--mask-only` writes PNGs, not `{format}`", "leave `--format` out")
