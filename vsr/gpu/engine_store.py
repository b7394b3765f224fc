"""Where compiled engines live, and whether one can be trusted.

An engine file stands beside a manifest (`NAME.engine.json`) that says what it was built from and for, and what its
bytes hash to. Both are written atomically, the engine first: a crash between the two leaves a pair that does not match,
and is rebuilt. An engine is never loaded unless `refusal` has nothing against it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

import platformdirs

from vsr._version import __version__
from vsr.errors import InterruptedJobError, OutputError
from vsr.store import atomic_write, translate_write_error

SUFFIX: Final = ".engine"
WAIT_S: Final = 0.05  # between two looks whether another process has finished
Size = tuple[int, int]


@dataclass(frozen=True)
class Profile:
    """The pictures that an engine takes.

    Attributes:
        smallest, usual, largest: width and height; the usual one is what it is tuned for. All the same: one size only.
        batch: pictures at once; 1 to this many if sizes are free.
    """

    smallest: Size
    usual: Size
    largest: Size
    batch: int = 1

    @property
    def static(self) -> bool:
        """Whether there is one size only."""
        return self.smallest == self.largest

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.largest))
        if not self.static:
            sizes = "x".join(map(str, self.smallest)) + "-" + sizes
        return sizes if self.batch == 1 else f"{sizes}-b{self.batch}"


@dataclass(frozen=True)
class EngineKey:
    """What an engine was built from and for; engines of equal keys are interchangeable.

    Attributes:
        model: name of the model.
        model_sha256: of the ONNX file.
        graph_sha256: of the frame graph, which holds format, colour, layout and precision.
        scale: whole enlargement factor.
        pix_fmt: of the planes, as FFmpeg names it (`nv12` and `p010` too).
        color: matrix, range and siting, in words.
        precision: fp32, fp16, int8 or fp8.
        profile: the sizes.
        runtime: tensorrt or tensorrt-rtx.
        runtime_version: of it; another version does not read the file.
        capability: `sm_89`.
        gpu: the GPU's name where the runtime ties the file to it, else empty.
    """

    model: str
    model_sha256: str
    graph_sha256: str
    scale: int
    pix_fmt: str
    color: str
    precision: str
    profile: Profile
    runtime: str
    runtime_version: str
    capability: str
    gpu: str = ""

    @property
    def file_name(self) -> str:
        """One name for all versions of what was asked for, so that a stale engine is found, told and replaced."""
        model = self.model
        if model.endswith(".onnx"):  # a user's own, of which there may be two of one name
            model = f"{model.removesuffix('.onnx')}-{self.model_sha256[:8]}"
        model = "".join(c if c.isalnum() or c in "-." else "-" for c in model)
        parts = (f"{model}_x{self.scale}", self.pix_fmt, self.color, str(self.profile), self.precision, self.runtime)
        return f"{'_'.join(parts)}_{self.capability}{SUFFIX}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the manifest has them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


# What a difference in a manifest means, in the order in which it is looked for
DIFFERENCES: Final[dict[str, str]] = {
    "model_sha256": "it was built from another model",
    "model": "it was built from a model called {theirs}",
    "scale": "it enlarges {theirs} times",
    "pix_fmt": "it takes {theirs} pictures",
    "color": "it is for {theirs}",
    "precision": "it computes in {theirs}",
    "profile": "it takes pictures of other sizes",
    "graph_sha256": "it was built around a frame graph of another version of vsr",
    "runtime": "it was built by {theirs}, and {ours} is used here",
    "runtime_version": "it was built by version {theirs} of {runtime}, and {ours} is installed",
    "capability": "it was built for {theirs}, and {ours} is wanted",
    "gpu": "it was built for {theirs}, and this GPU is {ours}",
}


def default_folder() -> Path:
    """`engines/` in a checkout, the user's cache folder otherwise."""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file() and (root / "engines" / "README.md").is_file():
        return root / "engines"
    return platformdirs.user_cache_path("vsr") / "engines"


def manifest_path(engine: Path) -> Path:
    """Of the manifest beside an engine file."""
    return engine.with_name(f"{engine.name}.json")


def refusal(engine: Path, key: EngineKey) -> str | None:
    """Why the file at `engine` is not the engine of `key`, in a few words; None if it is, whole and unchanged."""
    if not engine.is_file():
        return "it is not there yet"
    try:
        manifest = json.loads(manifest_path(engine).read_text(encoding="utf-8"))
        wanted = key.to_dict()
        found = {name: manifest["key"][name] for name in wanted}
        size, digest = int(manifest["bytes"]), str(manifest["sha256"])
    except FileNotFoundError:
        return "it has no manifest"
    except (OSError, ValueError, KeyError, TypeError):
        return "its manifest cannot be read"
    for name, words in DIFFERENCES.items():
        if found[name] != wanted[name]:
            return words.format(theirs=found[name], ours=wanted[name], runtime=wanted["runtime"])
    try:
        data = engine.read_bytes()
    except OSError as exc:
        return f"it cannot be read: {exc.strerror}"
    if len(data) != size:
        return f"it has {len(data)} bytes of {size}"
    if hashlib.sha256(data).hexdigest() != digest:
        return "it has changed since it was built"
    return None


def publish(engine: Path, key: EngineKey, data: bytes, facts: dict[str, Any]) -> None:
    """Write an engine and its manifest, each under its final name only when complete.

    Raises:
        OutputError: the folder cannot be written.
    """
    manifest = {
        "key": key.to_dict(),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "vsr": __version__,
        **facts,
    }
    with atomic_write(engine, overwrite=True) as path:
        path.write_bytes(data)
    with atomic_write(manifest_path(engine), overwrite=True) as path:
        path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_facts(engine: Path) -> dict[str, Any]:
    """All that the manifest of an engine says; empty if it cannot be read."""
    try:
        found = json.loads(manifest_path(engine).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def add_facts(engine: Path, facts: dict[str, Any]) -> None:
    """Write more into the manifest of an engine, if there is one and its folder can be written."""
    manifest = read_facts(engine)
    if not manifest:
        return
    with contextlib.suppress(OutputError), atomic_write(manifest_path(engine), overwrite=True) as path:
        path.write_text(json.dumps({**manifest, **facts}, indent=2) + "\n", encoding="utf-8")


def forget(engine: Path) -> None:
    """Trust the file at `engine` no more: it is built again when it is asked for."""
    with contextlib.suppress(OSError):
        manifest_path(engine).unlink()


@contextlib.contextmanager
def building(
    engine: Path, on_wait: Callable[[], None] = lambda: None, go_on: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Hold the right to build the file at `engine`: of several processes one builds, the others wait for it.

    The lock dies with its process. Its file stays, for removing it would let two processes hold two locks of one name.

    Args:
        engine: path of the engine file, whose folder is made if there is none.
        on_wait: called once if another process holds the right.
        go_on: asked again and again while it does.

    Raises:
        OutputError: the folder cannot be written.
        InterruptedJobError: `go_on` answered no.
    """
    lock = engine.with_name(f"{engine.name}.lock")
    try:
        engine.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as exc:
        raise translate_write_error(exc, engine.parent) from exc
    with file:
        if not _lock(file):
            on_wait()
            while not _lock(file):
                if not go_on():
                    raise InterruptedJobError(f"interrupted while another process was building {engine.name}")
                time.sleep(WAIT_S)
        yield


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
