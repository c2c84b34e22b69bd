"""What the volume viewer draws, and what comes back from it; JSON-able, no Streamlit.

Points are patient space, LPS millimetres. The browser keeps what a reader does by hand (slice,
zoom, window, layout, visibility); a field of the scene is applied again only when it changes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "PALETTE",
    "ActivationMap",
    "Brush",
    "CrosshairMoved",
    "KeyPressed",
    "Layout",
    "MaskSaved",
    "Measured",
    "PointLps",
    "Scene",
    "SceneFinding",
    "SceneVolume",
    "ScreenshotTaken",
    "Segment",
    "ViewerEvent",
    "WindowPreset",
    "colour_of",
    "event_from_json",
]

Layout = Literal["axial", "coronal", "sagittal", "mpr", "3d", "side_by_side"]
"""`mpr` is the three planes together; `side_by_side` one plane of every volume, linked."""

ColourScale = Literal["inferno", "viridis", "cividis"]
PointLps = tuple[float, float, float]

PALETTE = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999",
)  # fmt: skip
"""Okabe and Ito (2008), Color Universal Design: told apart with any colour vision."""


def colour_of(label: int) -> str:
    """The default colour of a label, from 1."""
    return PALETTE[(label - 1) % len(PALETTE)]


@dataclass(frozen=True)
class WindowPreset:
    """A named intensity window, in the unit of its volume."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class SceneVolume:
    """One volume of the study, with its mask.

    Attributes:
        id: As in case.json.
        title: What a reader is shown, such as "ED" or "CT".
        image_url: From `app.serving`.
        labels_url: Its label map, from `app.serving`; None without one.
        save_url: Where an edited label map is sent; None where painting is not allowed.
        slices_url: Slices drawn on the server, for browsers without WebGL2; None if never needed.
        modality: "CT", "MR" or "".
        unit: Of the intensity: "HU" for CT, else "".
        presets: Windows that fit the modality; the viewer adds MR percentiles itself.
        window: (low, high) at the start; None lets the viewer take percentiles 1 to 99.
        time_index: Place in a cine, from 0; None where it is no phase.
    """

    id: str
    title: str
    image_url: str
    labels_url: str | None = None
    save_url: str | None = None
    slices_url: str | None = None
    modality: str = ""
    unit: str = ""
    presets: tuple[WindowPreset, ...] = ()
    window: tuple[float, float] | None = None
    time_index: int | None = None


@dataclass(frozen=True)
class Segment:
    """One structure of the label maps; the same label is the same structure in every volume."""

    label: int
    name: str
    colour: str
    is_visible: bool = True
    opacity: float = 0.4
    is_outline: bool = False


@dataclass(frozen=True)
class ActivationMap:
    """The map of a finding, in 0..1; its colours reach from 0 to its largest value.

    Attributes:
        urls: Per volume id, from `app.serving`.
        threshold: Share of the largest value below which nothing is drawn.
        opacity: 0..1.
        colours: Name of the colour scale; all of them are safe for colour-blind readers.
    """

    urls: Mapping[str, str]
    threshold: float = 0.3
    opacity: float = 0.5
    colours: ColourScale = "inferno"


@dataclass(frozen=True)
class SceneFinding:
    """One finding that can be chosen; the browser goes there before the page hears of it.

    Attributes:
        name: As in case.json.
        title: What a reader is shown, beside the colour bar.
        control: CSS class around the button of the page that chooses it; "" without one.
        place_url: Where to look, from `app.serving`; None where the page alone decides.
        activation: Its map; None without one.
    """

    name: str
    title: str
    control: str = ""
    place_url: str | None = None
    activation: ActivationMap | None = None


@dataclass(frozen=True)
class Brush:
    """Painting `label` (0 erases) with a ball of this radius."""

    label: int
    radius_mm: float = 5.0


@dataclass(frozen=True)
class Scene:
    """Everything the viewer draws.

    Attributes:
        case_id: A new one makes the viewer forget what the reader did by hand.
        volumes: At least one.
        volume: Id of the volume in front; "" is the first.
        segments: What the labels mean.
        findings: Those that can be chosen, in the order of the page.
        finding: Name of the chosen one; "" for none.
        layout: Which planes are shown.
        crosshair_lps: Where the planes meet; None is the place of the chosen finding, or the
            middle of the first volume. Set it to go to a centre.
        window: (low, high) for the volume in front; None keeps its own.
        is_inverted: White on black or black on white.
        is_smooth: Linear interpolation, else voxels as they are.
        is_linked: Volumes move together in patient space.
        is_cine_playing: Plays the volumes that have a `time_index`.
        cine_fps: Phases per second.
        brush: Painting is on; None is off.
        has_toolbar: Whether the viewer shows its own tools.
        theme: Colours around the image; `page` are those of the page.
        page_keys: Keys that the page answers and what they do, for the list on "?".
    """

    case_id: str
    volumes: tuple[SceneVolume, ...]
    volume: str = ""
    segments: tuple[Segment, ...] = ()
    findings: tuple[SceneFinding, ...] = ()
    finding: str = ""
    layout: Layout = "mpr"
    crosshair_lps: PointLps | None = None
    window: tuple[float, float] | None = None
    is_inverted: bool = False
    is_smooth: bool = True
    is_linked: bool = True
    is_cine_playing: bool = False
    cine_fps: float = 15.0
    brush: Brush | None = None
    has_toolbar: bool = True
    theme: Literal["page", "dark", "light"] = "page"
    page_keys: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain dicts and lists for the component."""
        return asdict(self)


@dataclass(frozen=True)
class CrosshairMoved:
    """The reader let go of the crosshair, or changed the layout: what a link reopens.

    `finding` is the one that was chosen with a key of the viewer; None where it is not news.
    """

    point_lps: PointLps
    volume: str
    layout: Layout
    window: tuple[float, float]
    finding: str | None = None


@dataclass(frozen=True)
class MaskSaved:
    """An edited label map reached `save_url`; the registered writer has it already."""

    volume: str
    voxels_changed: int


@dataclass(frozen=True)
class Measured:
    """A distance in mm or an angle in degrees."""

    kind: Literal["distance", "angle"]
    value: float
    volume: str
    points_lps: tuple[PointLps, ...] = field(default=())


@dataclass(frozen=True)
class ScreenshotTaken:
    """The browser has offered the image for saving; nothing was sent."""

    volume: str


@dataclass(frozen=True)
class KeyPressed:
    """A key that concerns the page and not the image."""

    action: Literal["next_case", "previous_case"]


ViewerEvent = CrosshairMoved | MaskSaved | Measured | ScreenshotTaken | KeyPressed

_ACTIONS = ("next_case", "previous_case")


def _point(value: Any) -> PointLps:
    x, y, z = (float(part) for part in value)
    return x, y, z


def _crosshair(value: Mapping[str, Any]) -> CrosshairMoved:
    low, high = (float(part) for part in value["window"])
    layout = value["layout"]
    if layout not in get_args(Layout):
        raise ValueError(f"Layout must be one of {get_args(Layout)}. Found {layout!r}.")
    finding = value.get("finding")
    return CrosshairMoved(
        _point(value["point_lps"]), str(value["volume"]), layout, (low, high),
        None if finding is None else str(finding),
    )  # fmt: skip


def _measured(value: Mapping[str, Any]) -> Measured:
    kind = value["kind_of"]
    if kind not in ("distance", "angle"):
        raise ValueError(f"A measurement is a distance or an angle. Found {kind!r}.")
    points = tuple(_point(point) for point in value["points_lps"])
    return Measured(kind, float(value["value"]), str(value["volume"]), points)


def _key(value: Mapping[str, Any]) -> KeyPressed:
    if value["action"] not in _ACTIONS:
        raise ValueError(f"Action must be one of {_ACTIONS}. Found {value['action']!r}.")
    return KeyPressed(value["action"])


def event_from_json(value: Mapping[str, Any]) -> ViewerEvent:
    """The event a browser sent; browsers are not trusted, so every field is checked.

    Raises:
        ValueError: If it is none of the known events or a field is not as it should be.
    """
    try:
        match value["kind"]:
            case "crosshair":
                return _crosshair(value)
            case "mask_saved":
                return MaskSaved(str(value["volume"]), int(value["voxels_changed"]))
            case "measured":
                return _measured(value)
            case "screenshot":
                return ScreenshotTaken(str(value["volume"]))
            case "key":
                return _key(value)
    except (KeyError, TypeError) as error:
        raise ValueError(f"A viewer event lacks a field or has a wrong one: {error}.") from error
    raise ValueError(f"Unknown viewer event {value['kind']!r}.")
