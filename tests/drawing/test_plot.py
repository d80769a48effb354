"""Networks as pictures: what they say, what they draw, and that nothing lies on anything else."""

import itertools
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import reskeras
from reskeras.cli import main
from reskeras.drawing.canvas import Arc, Box, Shape, Words
from reskeras.drawing.canvas import figure as to_figure
from reskeras.drawing.inset import Unit, inset
from reskeras.drawing.palette import BLUE, GREEN, HIGHLIGHT, STEEL, VIOLET, Paint
from reskeras.drawing.plot import draw, figure
from reskeras.drawing.tracing import Trace
from reskeras.spec import (
    BasicBlock,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DeepStem,
    DenseBlock,
    Features,
    GatedShortcut,
    GroupNorm,
    Heatmaps,
    Hourglass,
    Level,
    LinearStem,
    NoNorm,
    PresetEncoder,
    Regressor,
    ResNet,
    Segmenter,
    Stage,
    UNet,
)

TWO_CLASSES = Segmenter(classes=2)
RESNET = ResNet(
    input_shape=(32, 32, 3),
    stem=CifarStem(),
    block=BasicBlock(),
    stages=(Stage(blocks=3, width=16),),
    head=Classifier(classes=10),
)
FIVE = tuple(Level(width=width) for width in (32, 64, 64, 128, 256))
NESTED = UNet(
    input_shape=(256, 256, 3),
    block=BasicBlock(),
    decoder="nested",
    deep_supervision=True,
    stages=FIVE,
    head=TWO_CLASSES,
)
HOURGLASS = Hourglass(input_shape=(256, 256, 3), stacks=2, head=Heatmaps())

# What the presets do not have.
OTHERS: dict[str, Any] = {
    "vectors": replace(RESNET, input_shape=(784,), stem=LinearStem(), norm_order="full_preact"),
    "sequences": replace(
        RESNET,
        input_shape=(40, 1),
        shortcut="avgpool_project",
        stages=(Stage(blocks=9, width=64, stride=2),),
    ),
    "volumes": replace(
        RESNET,
        input_shape=(32, 32, 32, 1),
        stem=DeepStem(),
        norm=GroupNorm(),
        residual_scale="learned",
    ),
    "one_pixel": replace(RESNET, input_shape=(1, 1, 1), stages=(Stage(blocks=1, width=1),)),
    "many_stages": replace(
        RESNET,
        stages=tuple(Stage(blocks=8, width=1024, stride=2) for _ in range(9)),
        block=BottleneckBlock(),
    ),
    "super_resolution": replace(RESNET, norm=NoNorm(), head=Regressor(channels=3)),
    "features": replace(RESNET, block=DenseBlock(), head=Features(endpoints=("stem", "stage1"))),
    "everything": replace(
        RESNET,
        shortcut=GatedShortcut(),
        squeeze_excite=4,
        dropout=0.1,
        drop_path_rate=0.2,
        layer_prefix="p_",
    ),
    "nested": NESTED,
    "nested_attention": replace(
        NESTED, skip="attention", block=DenseBlock(), deep_supervision=False
    ),
    "deep_supervision": replace(
        NESTED,
        decoder="plain",
        skip="add",
        block=BottleneckBlock(),
        stages=(Level(width=64, blocks=9),) * 4,
    ),
    "attention": replace(
        NESTED,
        decoder="plain",
        skip="attention",
        deep_supervision=False,
        up="nearest",
        down="stride",
    ),
    "unet_of_resnet34": UNet(
        input_shape=(224, 224, 3),
        encoder=PresetEncoder(preset="resnet34"),
        stages=FIVE,
        head=TWO_CLASSES,
    ),
    "unet_of_resnet20": UNet(
        input_shape=(32, 32, 3),
        encoder=PresetEncoder(preset="resnet20"),
        stages=FIVE[:2],
        head=TWO_CLASSES,
        skip="attention",
    ),
    "unet_of_densenet121": UNet(
        input_shape=(230, 224, 3),
        sizes="pad",
        encoder=PresetEncoder(preset="densenet121"),
        stages=FIVE,
        head=TWO_CLASSES,
    ),
    "unet_of_volumes": UNet(
        input_shape=(16, 16, 16, 1), stages=FIVE[:3], head=Regressor(channels=1)
    ),
    "unet_of_sequences": UNet(
        input_shape=(64, 2),
        stages=FIVE[:4],
        block=DenseBlock(),
        norm_order="full_preact",
        head=TWO_CLASSES,
    ),
    "hourglass_2": HOURGLASS,
    "hourglass_of_volumes": replace(HOURGLASS, input_shape=(32, 32, 32, 2), depth=2, stacks=3),
    "hourglass_8": replace(HOURGLASS, stacks=8, depth=1, blocks=3),
    "hourglass_dense": replace(HOURGLASS, block=DenseBlock(), head=Features(endpoints=("stack1",))),
}


def texts(path: Path) -> list[str]:
    return [
        "".join(text.itertext()).strip()
        for text in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    ]


def arcs(spec: Any) -> tuple[int, int, int]:
    """Identity shortcuts, other shortcuts, and arcs of dense stages."""
    drawn = [item.arc for item in draw(spec).items if isinstance(item, Shape)]
    return drawn.count(Arc.IDENTITY), drawn.count(Arc.CHANGED), drawn.count(Arc.DENSE)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("resnet50", ["56×56", "28×28", "14×14", "7×7"]),
        ("preact1001", ["32×32", "16×16", "8×8"]),
        ("densenet121", ["56×56", "28×28", "14×14", "7×7"]),
        (
            "unet",
            [
                "568×568",
                "280×280",
                "136×136",
                "64×64",
                "28×28",
                "52×52",
                "100×100",
                "196×196",
                "388×388",
            ],
        ),
    ],
)
def test_a_picture_says_every_stage_and_what_the_network_costs(name: str, sides: list[str]) -> None:
    spec = reskeras.preset(name)
    said = texts(reskeras.plot(name, "net.svg"))
    assert said[0] == name
    counted = {
        "resnet50": "25.6M",
        "preact1001": "10.3M",
        "densenet121": "7.98M",
        "unet": "31.0M",
    }[name]
    assert f"{counted} parameters" in said[1]
    assert f"{reskeras.cost(spec).macs / 1e9:.3g}"[:4] in said[1]
    for stage in spec.stages:
        assert f"{spec.block.kind} ×{stage.blocks}" in said
        assert not hasattr(stage, "width") or f"width {stage.width}" in said
    assert set(sides) <= set(said)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("resnet20", (7, 2, 0)),
        ("plain20", (0, 0, 0)),
        # Four stages whose first block projects; of the third stage's six blocks the first three
        # and the last are drawn.
        ("resnet50", (10, 4, 0)),
        ("preact1001", (9, 3, 0)),
        (replace(RESNET, shortcut="project_always"), (0, 3, 0)),
        (replace(RESNET, shortcut="none"), (0, 0, 0)),
        (replace(RESNET, block=DenseBlock()), (0, 0, 3)),
        # Three layers of a stage of six or more, in each of four stages: 3 arcs; the fewer stages
        # of the other, four layers: 6.
        ("densenet121", (0, 0, 12)),
        ("densenet_bc_100_12", (0, 0, 18)),
        ("unet", (0, 0, 0)),
        ("resunet", (1, 6, 0)),
        # A triangle of fifteen nodes, of which the skips that join equal widths change nothing.
        (NESTED, (1, 14, 0)),
        (OTHERS["unet_of_resnet34"], (3 + 3 + 2 + 2, 3, 0)),
    ],
    ids=str,
)
def test_every_drawn_block_has_the_arc_of_its_shortcut(
    spec: Any, expected: tuple[int, int, int]
) -> None:
    assert arcs(spec) == expected


@pytest.mark.parametrize(
    ("order", "layers"),
    [
        ("original", "conv BN ReLU conv BN + ReLU"),
        ("norm_after_add", "conv BN ReLU conv + BN ReLU"),
        ("relu_before_add", "conv BN ReLU conv BN ReLU +"),
        ("relu_only_preact", "ReLU conv BN ReLU conv BN +"),
        ("full_preact", "BN ReLU conv BN ReLU conv +"),
    ],
)
def test_one_block_is_shown_in_the_order_of_the_paper(order: Any, layers: str) -> None:
    canvas = inset(Trace(replace(RESNET, norm_order=order)), Unit("stage1_block2", "", first=False))
    words = [
        (item.point[0], item.text)
        for item in canvas.items
        if isinstance(item, Words) and item.text in ("3×3 conv", "BN", "ReLU")
    ]
    plus = [
        item.points[0][0]
        for item in canvas.items
        if not isinstance(item, Words) and item.thick == 1.2
    ]
    shown = [text.removeprefix("3×3 ") for _, text in sorted([*words, (max(plus), "+")])]
    assert " ".join(shown) == layers


def test_unets_show_how_maps_meet_and_where_there_are_heads() -> None:
    # The triangle's and the legend's
    assert texts(reskeras.plot(NESTED, "net.svg")).count("C") == 10 + 1
    assert {"head 2", "head 3", "head 4"} <= set(texts(Path("net.svg")))
    said = texts(reskeras.plot("unet", "net.svg"))
    assert said.count("C") == 5
    assert said.count("crop") == 4
    said = texts(reskeras.plot(OTHERS["unet_of_resnet34"], "net.svg"))
    assert said.count("C") == 4 + 1, "at the full resolution a ResNet has no maps"
    assert {"encoder resnet34", "basic ×6", "plain ×1"} <= {
        part for text in said for part in text.split("  ·  ")
    }


def test_a_stack_of_hourglasses_has_a_head_between_two() -> None:
    said = texts(reskeras.plot(HOURGLASS, "net.svg"))
    assert {"stack 1", "stack 2", "head 1", "16 heatmaps", "64×64 → 4×4 → 64×64"} <= set(said)
    assert "head 2" not in said
    assert "stacks 2 to 7" in texts(reskeras.plot(OTHERS["hourglass_8"], "net.svg"))


@pytest.mark.parametrize(
    "spec", [*reskeras.presets(), *OTHERS.values()], ids=[*reskeras.presets(), *OTHERS]
)
def test_no_text_lies_on_another_or_on_a_line_or_leaves_the_page(spec: Any) -> None:
    canvas = draw(spec)
    page = to_figure(canvas)
    renderer = FigureCanvasAgg(page).get_renderer()
    boxes = {
        text: text.get_window_extent(renderer) for text in page.findobj(Text) if text.get_text()
    }
    assert len(boxes) > 10
    assert page.get_figwidth() < 17, "no wider than twice a README"
    for text, box in boxes.items():
        assert page.bbox.x0 <= box.x0 < box.x1 <= page.bbox.x1, text.get_text()
        assert page.bbox.y0 <= box.y0 < box.y1 <= page.bbox.y1, text.get_text()
    for (one, box), (two, other) in itertools.combinations(boxes.items(), 2):
        # Lines of one paragraph may touch: extents hold room for accents and descenders.
        apart = (
            box.x1 <= other.x0
            or other.x1 <= box.x0
            or box.y1 <= other.y0 + 1.5
            or other.y1 <= box.y0 + 1.5
        )
        assert apart, f"{one.get_text()!r} lies on {two.get_text()!r}"
    words = [item for item in canvas.items if isinstance(item, Words)]
    rooms = np.array([item.box for item in words])
    # Above and below letters a line of text has some room
    slack = 0.12 * (rooms[:, 3] - rooms[:, 1])
    for shape in canvas.items:
        if not isinstance(shape, Words):
            x, y = outline(shape).T[..., None]
            inside = (
                (x > rooms[:, 0])
                & (x < rooms[:, 2])
                & (y > rooms[:, 1] + slack)
                & (y < rooms[:, 3] - slack)
            )
            assert not inside.any(), (
                f"{shape.arc or 'a line'} runs through "
                f"{words[int(inside.any(axis=0).argmax())].text!r}"
            )


def outline(shape: Shape) -> np.ndarray:
    """Points on a shape's edges, a unit or less apart."""
    points = np.array([*shape.points, shape.points[0]] if shape.closed else shape.points)
    if shape.smooth:
        points = np.array(shape.points)
        t = np.linspace(0, 1, 33)[:, None]
        curves = [points[start : start + 4] for start in range(0, len(points) - 1, 3)]
        points = np.concatenate(
            [
                (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
                for a, b, c, d in curves
            ]
        )
    steps = [np.linspace(a, b, 2 + int(np.hypot(*(b - a)))) for a, b in itertools.pairwise(points)]
    return np.concatenate(steps)


def fronts(spec: Any, paint: Paint) -> list[Box]:
    """The faces toward the reader of the solids of this color, from left to right."""
    return sorted(
        Box(*item.points[0], *item.points[2])
        for item in draw(spec).items
        if isinstance(item, Shape) and not item.smooth and item.fill == paint.front
    )


def steps(numbers: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(numbers)]


SHRINKING = replace(
    RESNET,
    input_shape=(64, 64, 3),
    stages=tuple(Stage(blocks=1, width=width, stride=2) for width in (32, 64, 128, 256)),
)
LEVELS = tuple(Level(width=width) for width in (16, 32, 64, 128))


def test_stages_are_as_tall_as_their_resolution_and_as_thick_as_their_width() -> None:
    boxes = fronts(SHRINKING, BLUE)
    assert len(boxes) == 4
    # 32, 16, 8, 4 pixels and 32, 64, 128, 256 channels: each doubling is one step, which can be
    # seen.
    tall, thick = (steps([getattr(box, side) for box in boxes]) for side in ("height", "width"))
    assert tall == pytest.approx([tall[0]] * 3)
    assert thick == pytest.approx([thick[0]] * 3)
    assert tall[0] < -15
    assert thick[0] > 1
    # The image and the stem are at 64 pixels.
    (image,) = fronts(SHRINKING, STEEL)
    assert image.height - boxes[0].height == pytest.approx(-tall[0])


@pytest.mark.parametrize("decoder", ["plain", "nested"])
def test_levels_of_a_unet_are_as_tall_as_their_resolution(decoder: Any) -> None:
    spec = UNet(input_shape=(64, 64, 1), stages=LEVELS, decoder=decoder, head=TWO_CLASSES)
    down, bridge, up = (fronts(spec, paint) for paint in (BLUE, VIOLET, GREEN))
    # 64, 32, 16 pixels, and 8 in the bridge.
    tall = [box.height for box in [*down, *bridge]]
    by_step = steps(tall)
    assert len(tall) == 4
    assert by_step == pytest.approx([by_step[0]] * 3)
    assert by_step[0] < -8
    assert steps([box.width for box in [*down, *bridge]])[0] > 1
    # The decoder has the same resolutions: each of its boxes is as tall as the encoder's box in its
    # row.
    for box in up:
        beside = min(down, key=lambda one: abs(one.top - box.top))
        assert (box.top, box.bottom) == pytest.approx((beside.top, beside.bottom))
    assert len(up) == (3 if decoder == "plain" else 3 + 2 + 1)


def test_an_hourglass_is_as_tall_as_its_resolution() -> None:
    # From 128 pixels in the stem to 4 in the waist the height falls from 96 to 26: by 14 with each
    # halving. What stands before the waist is at 32, 16, 8 and 4.
    waist, _ = fronts(HOURGLASS, VIOLET)
    before = [box for box in fronts(HOURGLASS, BLUE) if box.right < waist.left][-4:]
    assert steps([box.height for box in before]) == pytest.approx([-14] * 3)
    assert waist.height == pytest.approx(26)


@pytest.mark.parametrize(
    ("spec", "title", "sizes", "place"),
    [
        # The first block whose shortcut is the identity, though not the first of a stage; boxes are
        # counted from the left.
        (replace(RESNET, stages=(Stage(blocks=2, width=16), Stage(blocks=2, width=32, stride=2))),
         "stage 1, block 2", "32×32×16 → 32×32×16", 1),
        (replace(RESNET, stages=(Stage(blocks=1, width=8), Stage(blocks=3, width=32, stride=2))),
         "stage 2, block 2", "16×16×32 → 16×16×32", 2),
        # None is the identity: the first of all.
        (replace(RESNET, shortcut="project_always", stages=(Stage(blocks=2, width=8, stride=2),)),
         "stage 1, block 1", "32×32×16 → 16×16×8", 0),
        (UNet(input_shape=(32, 32, 1), block=BasicBlock(),
              stages=(Level(width=8), Level(width=16, blocks=2)), head=TWO_CLASSES),
         "bridge, block 2", "16×16×16 → 16×16×16", 1),
        # Behind three blocks of the stem.
        (HOURGLASS, "stack 1, level 1, block 1", "32×32×256 → 32×32×256", 3),
    ],
)  # fmt: skip
def test_the_block_shown_layer_by_layer_is_the_one_that_is_marked(
    spec: Any, title: str, sizes: str, place: int
) -> None:
    canvas = draw(spec)
    words = [item for item in canvas.items if isinstance(item, Words)]
    (heading,) = [item for item in words if item.color == HIGHLIGHT]
    assert heading.text == title
    (said,) = [
        item.text for item in words if "→" in item.text and item.point[1] == heading.point[1]
    ]
    assert said == sizes
    # Its last convolution makes the channels that the heading says.
    inside = [item for item in words if item.point[1] > heading.point[1]]
    widths = [item for item in inside if item.text.partition(",")[0].isdecimal()]
    assert max(widths, key=lambda item: item.point[0]).text == sizes.rpartition("×")[2]
    (edge,) = [item for item in canvas.items if isinstance(item, Shape) and item.edge == HIGHLIGHT]
    marked = Box(*edge.points[0], *edge.points[2])
    boxes = fronts(spec, VIOLET if title.startswith("bridge") else BLUE)
    assert boxes.index(marked) == place


def test_the_words_are_as_wide_as_the_drawing_thinks() -> None:
    page = figure("resnet50")
    renderer = FigureCanvasAgg(page).get_renderer()
    measured = [
        text.get_window_extent(renderer).width for text in page.findobj(Text) if text.get_text()
    ]
    thought = [item.box.width for item in draw("resnet50").items if isinstance(item, Words)]
    assert measured == pytest.approx(thought, rel=0.05, abs=2.5)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_same_network_gives_the_same_bytes_whatever_a_person_has_set(suffix: str) -> None:
    first = reskeras.plot("resnet20", f"one.{suffix}").read_bytes()
    # What changes a picture though it says its own fonts, sizes and colors.
    mine = {
        "svg.fonttype": "path",
        "savefig.bbox": "tight",
        "savefig.facecolor": "red",
        "path.sketch": (1, 100, 2),
    }
    with matplotlib.rc_context(mine):
        second = reskeras.plot(
            replace(reskeras.preset("resnet20"), layer_prefix="p_"), f"two.{suffix}"
        ).read_bytes()
    assert first == second
    assert first != reskeras.plot("plain20", f"three.{suffix}").read_bytes()


def test_a_picture_that_cannot_be_finished_leaves_the_one_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = reskeras.plot("resnet20", "net.svg").read_bytes()

    def fail(page: Any, path: Path, kind: str) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reskeras.drawing.plot._save", fail)
    with pytest.raises(reskeras.RequestError, match=r"net\.svg: No space left on device"):
        reskeras.plot("plain20", "net.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["net.svg"]
    assert Path("net.svg").read_bytes() == before


def test_the_command_writes_both_formats() -> None:
    Path("mine.yaml").write_text(reskeras.dump_spec(replace(RESNET, name="mine_too")))
    for arguments, path in (
        (["resnet20"], "resnet20.svg"),
        (["mine.yaml"], "mine.svg"),
        (["resnet20", "-o", "a.PNG"], "a.PNG"),
    ):
        result = CliRunner().invoke(main, ["plot", *arguments])
        assert (result.exit_code, result.stdout) == (0, f"{path}\n"), result.output
    assert texts(Path("mine.svg"))[0] == "mine_too"
    assert Path("a.PNG").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["resnet20", "-o", "net.jpg"],
            "error: net.jpg: unknown suffix .jpg; use .svg or .png",
        ),
        (
            ["resnet20", "-o", "net"],
            "error: net: no suffix; use .svg or .png",
        ),
        (["resnet20", "-o", "none/net.svg"], "error: none/net.svg: no such folder: none"),
        (["resnet20", "-o", "folder.svg"], "error: folder.svg: Is a directory"),
        (
            ["resnet21"],
            "error: 'resnet21' is not a preset (`reskeras presets` lists them) or a spec file",
        ),
        (["none.yaml"], "error: none.yaml: No such file"),
    ],
)
def test_the_command_refuses_what_it_cannot_do_in_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    Path("folder.svg").mkdir()
    result = CliRunner().invoke(main, ["plot", *arguments])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.svg"]


def test_drawing_needs_neither_tensorflow_nor_pyplot() -> None:
    code = "import sys, reskeras; reskeras.plot('unet_small', 'net.svg'); print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(result.stdout.split())
    assert "matplotlib.figure" in loaded
    assert not {"tensorflow", "keras", "matplotlib.pyplot", "mlflow"} & loaded
    code = "import sys, reskeras, reskeras.drawing.plot, reskeras.cli.plot; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert not re.search(r"\bmatplotlib\b", result.stdout), (
        "importing costs nothing; only drawing does"
    )
