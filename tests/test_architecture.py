"""The arrows between the modules, as ARCHITECTURE.md draws them, and what an installation without extras can do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vsr"
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(PACKAGE.rglob("*.py"))
}
LONGEST = 450
EXTRAS = ("torch", "h5py", "spandrel", "tensorrt", "tensorrt_rtx", "pycuda")

# What a module of the core may import of this package, besides errors, frame and _version; of others, in brackets.
# A module that is not listed here belongs to no layer: add it where its data flows.
LAYERS = (
    ("errors",),
    (
        "frame",
        "_version",
        "resample",
        "metrics",
        "channel",
        "processor",
        "store",
        "reading.decode_report",
        "pictures.deep",
        "pictures.tiff",
        "gpu.names",
        "gpu.dlpack",
        "gpu.memory",
        "gpu.build_progress",
        "fields.times",
        "boxes",
        "layout",
        "ebml",
        "side_data",
        "reading.nal_units",
        "graphs.ends",
        "graphs.opset",
    ),
    (
        "pipeline",
        "writing.containers",
        "model",
        "hdr",
        "reading.field_packets",
        "comparison.likeness",
        "evaluation.vmaf",
        "evaluation.sheet",
        "writing.color_tags",
        "writing.encoder_table",
        "pictures.attached",
        "gpu.video",
        "surface",
    ),
    ("siting", "size", "orientation", "engines.blob_store", "copying.data_tracks"),
    ("gpu.cuda_driver", "gpu.engine_store", "gpu.tensorrt_api", "graphs.chain"),
    (
        "gpu.devices",
        "writing.encoder_options",
        "writing.matroska",
        "writing.quicktime",
        "report",
        "comparison.differences",
        "trim",
        "reading.late_streams",
        "reading.picture_times",
    ),
    (
        "reading.demux",
        "pixel_formats",
        "writing.encoders",
        "graphs.nodes",
        "graphs.low_precision",
        "graphs.footprint",
        "graphs.shapes",
        "copying.linear_pcm",
        "copying.subtitles",
        "copying.wave_sound",
        "copying.timecode",
        "copying.sound_changes",
        "comparison.appearance",
    ),
    (
        "graphs.frame_graph",
        "graphs.interleave",
        "copying.packet_window",
        "reading.seek",
        "reading.truncation",
        "reading.crop",
        "copying.selection",
        "fields.order",
    ),
    ("graphs.fidelity",),
    (
        "gpu.build",
        "engines.engine",
        "engines.tiles",
        "engines.rectangles",
        "copying.stream_rules",
        "comparison.payloads",
        "copying.packet_times",
        "reading.probe",
        "reading.hardware",
        "pictures.files",
        "pictures.rgb",
        "fields.detect",
    ),
    ("gpu.build_process", "gpu.kernel_cache", "engines.timing"),
    (
        "engines.strips",
        "engines.deal",
        "engines.replenish",
        "source",
        "remux",
        "writing.check",
        "writing.conversion",
        "backends",
        "comparison.facts",
        "comparison.lockstep",
    ),
    (
        "engines.precision",
        "engines.fitting",
        "sink",
        "evaluation.pairs",
        "enlarged",
        "pictures.sequence",
        "fields.deinterlace",
        "comparison.field_pairs",
        "comparison.descriptions",
    ),
    ("engines.handover", "engines.shrinking"),
    ("engines.compile", "hardware", "pictures.sequence_source", "pictures.sequence_sink"),
    ("upscaler",),
    ("options",),
    ("endpoints",),
    ("stills",),
    ("job",),
    ("inspect", "doctor", "batch", "comparison.compare", "benchmark", "evaluation.measure"),
    ("comparison.compare_pictures",),
    ("cli",),
    ("__main__",),
)
# Who may import what from outside, at the top or inside a function
HOMES = {
    "onnx": [
        "benchmark",
        "graphs.fidelity",
        "graphs.frame_graph",
        "graphs.nodes",
        "graphs.interleave",
        "graphs.low_precision",
        "graphs.ends",
        "graphs.opset",
        "model",
        "graphs.chain",
        "graphs.footprint",
        "graphs.shapes",
        "backends.torch",
        "training",
        "networks",
    ],
    "openvino": ["backends.openvino", "training.export"],
    "torch": ["networks", "training", "backends.torch", "backends.torch_ops", "backends.torch_device"],
    "h5py": ["training"],
    "PIL": [
        "benchmark",
        "pictures.files",
        "pictures.deep",
        "pictures.attached",
        "pictures.tiff",
        "evaluation.pairs",
        "evaluation.sheet",
        "training",
    ],
    "click": ["cli"],
    "tqdm": ["cli", "training"],
}
# The commands about training, which import it when they are called
TRAINERS = ("vsr.cli.train", "vsr.cli.prepare_data", "vsr.cli.export")
# What computes pictures or holds the parts together knows nothing of FFmpeg
WITHOUT_AV = [
    "errors",
    "frame",
    "channel",
    "pipeline",
    "writing.containers",
    "model",
    "graphs.frame_graph",
    "graphs.footprint",
    "engines.engine",
    "engines.strips",
    "engines.deal",
    "engines.rectangles",
    "engines.tiles",
    "surface",
]
WITHOUT_AV += [
    "engines.replenish",
    "engines.compile",
    "backends",
    "upscaler",
    "job",
    "stills",
    "batch",
    "store",
    "resample",
    "metrics",
    "cli",
    "pictures.deep",
    "pictures.tiff",
    "pictures.attached",
    "pictures.files",
    "pictures.rgb",
    "pictures.sequence",
    "pictures.sequence_source",
    "pictures.sequence_sink",
    "endpoints",
]


def short(module: str) -> str:
    return module.removeprefix("vsr").removeprefix(".") or "__init__"


LISTED = {name for layer in LAYERS for name in layer}


def layer_name(module: str) -> str:
    """The module itself where it is listed, else the package that it is in."""
    return short(module) if short(module) in LISTED else short(module).split(".")[0]


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Full names of the modules that `path` imports, but for those only the type checker sees."""
    found: set[str] = set()

    def visit(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import):
                found.update(a.name for a in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                found.add(node.module or "")
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                visit(node.orelse)
            elif not (top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
                for field in ("body", "orelse", "finalbody"):
                    visit(getattr(node, field, []) if isinstance(getattr(node, field, []), list) else [])
                for handler in getattr(node, "handlers", []):
                    visit(handler.body)

    visit(ast.parse(path.read_text()).body)
    return found


def test_every_module_of_the_core_has_its_layer() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - LISTED
    core = {layer_name(m) for m in MODULES} - {"__init__"} - packages
    assert sorted(core - LISTED) == [], "place new modules in LAYERS"
    assert sorted(LISTED - core) == [], "these are gone"


@pytest.mark.parametrize("module", [m for m in MODULES if layer_name(m) not in ("__init__", "networks", "training")])
def test_imports_point_the_way_the_data_flows(module: str) -> None:
    height = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    own = layer_name(module)
    for name in sorted(i for i in imports(MODULES[module]) if i.split(".")[0] == "vsr" and i != "vsr"):
        other = layer_name(name)
        if other in ("networks", "training"):
            assert module in TRAINERS, f"{module} imports {name}: the core needs no training"
            continue
        if other != own and {other, own} <= set(height):
            assert height[other] < height[own], f"{module} imports {name}, which lies above or beside it"


def test_errors_import_nothing_and_frames_nearly_nothing() -> None:
    assert imports(PACKAGE / "errors.py") <= {"__future__"}
    third = {i.split(".")[0] for i in imports(PACKAGE / "frame.py")} - set(sys.stdlib_module_names) - {"__future__"}
    assert third <= {"numpy", "vsr"}
    assert {i.split(".")[0] for i in imports(PACKAGE / "channel.py")} <= {"__future__"} | set(sys.stdlib_module_names)


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_its_homes(library: str) -> None:
    allowed = HOMES[library]
    users = [short(m) for m, path in MODULES.items() if any(i.split(".")[0] == library for i in imports(path))]
    assert [u for u in users if not any(u == a or u.startswith(f"{a}.") for a in allowed)] == []


def test_only_what_reads_and_writes_files_knows_ffmpeg() -> None:
    users = {layer_name(m) for m, path in MODULES.items() if any(i.split(".")[0] == "av" for i in imports(path))}
    assert sorted(users & set(WITHOUT_AV)) == []


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("vsr.cli") or m == "vsr"])
def test_the_command_line_imports_nothing_heavy_before_it_is_needed(module: str) -> None:
    for name in imports(MODULES[module], top_only=True):
        top = name.split(".")[0]
        light = {"__future__", "click", *sys.stdlib_module_names}
        assert top in light or name in ("vsr._version", "vsr.errors") or name.startswith("vsr.cli"), name


IMPORT_ALL = f"""
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked)", name=name.split(".")[0])
sys.meta_path.insert(0, Blocked())
failed = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append(f"{{name}}: {{error!r}}")
print("\\n".join(failed))
"""


def test_every_module_of_the_core_is_imported_without_any_extra() -> None:
    core = [
        m
        for m in MODULES
        if layer_name(m) not in ("networks", "training")
        and m not in ("vsr.__main__", "vsr.backends.torch_ops", "vsr.backends.torch_device")
    ]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *core], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short_enough_to_be_read(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) < LONGEST


@pytest.mark.parametrize("module", MODULES)
def test_modules_say_what_they_are_for(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    assert module == "vsr._version" or ast.get_docstring(tree)


def test_nothing_names_a_machines_own_paths() -> None:
    for path in [*MODULES.values(), *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "tests").rglob("*.py")]:
        text = path.read_text()
        assert ("/" + "work/") not in text, path
        assert ("/" + "root/") not in text, path
