"""What `vsr doctor` finds out: what works on this machine, and what is missing for the rest."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from vsr._version import __version__
from vsr.engines.engine import BACKENDS, choose_backend, load_backend
from vsr.errors import VsrError
from vsr.gpu import tensorrt_api
from vsr.gpu.cuda_driver import probe
from vsr.gpu.video import EXACT_CODECS, nvdec_refusal
from vsr.model import default_model_name, shipped_models
from vsr.processor import memory_size, usable_cores
from vsr.writing.encoder_options import EncoderRequest, resolve, try_open
from vsr.writing.encoder_table import ENCODERS, library_formats

PACKAGES: Final = ("av", "numpy", "onnx", "openvino", "pillow", "click", "tqdm", "platformdirs")
# distribution: the extra that brings it, and what it is for
TENSORRT_PARTS: Final = {
    "tensorrt-rtx": ("tensorrt-rtx", "builds engines for GPUs that need not be here, runs them on RTX GPUs"),
    "tensorrt": ("tensorrt", "builds and runs engines on the GPU of this machine"),
    "pycuda": ("cuda", "the GPU's memory for TensorRT; a CUDA build of torch does as well"),
}
# of the processor, as Linux spells them, and what they are good for here
CPU_FLAGS: Final = {
    "avx2": "fp32",
    "avx512f": "fp32",
    "avx512_vnni": "int8",
    "avx_vnni": "int8",
    "avx512_bf16": "bf16",
    "amx_int8": "int8",
    "amx_bf16": "bf16",
    "asimddp": "int8",
    "i8mm": "int8",
    "bf16": "bf16",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: system, package, cpu, backend, gpu, tensorrt, decoder, encoder or model.
        name: of what was looked for.
        ok: whether it is there.
        detail: version or description, or what is missing and how to get it.
    """

    topic: str
    name: str
    ok: bool
    detail: str


def examine() -> list[Finding]:
    """Look at everything; never raises for something that is missing."""
    hardware = [*_cpu(), *_backends(), *_gpus(), *_tensorrt()]
    return [*_system(), *_packages(), *hardware, *_decoders(), *_encoders(), *_models()]


def to_dict(findings: list[Finding]) -> dict[str, Any]:
    """Plain values for JSON."""
    return {"version": __version__, "findings": [asdict(f) for f in findings]}


def _system() -> list[Finding]:
    import av

    libraries = ", ".join(f"{n} {'.'.join(map(str, v))}" for n, v in sorted(av.library_versions.items()))
    return [
        Finding("system", "vsr", True, __version__),
        Finding("system", "python", True, f"{platform.python_version()} on {platform.platform()}"),
        Finding("system", "ffmpeg libraries", True, f"{libraries} (inside PyAV)"),
        Finding("system", "memory", True, f"{_memory_gib():.1f} GiB"),
    ]


def _packages() -> list[Finding]:
    findings = []
    for name in PACKAGES:
        try:
            findings.append(Finding("package", name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding("package", name, False, f"pip install {name}"))
    return findings


def _cpu() -> list[Finding]:
    model, flags = platform.processor() or platform.machine(), set()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    if match := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
        model = match.group(1)
    if match := re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE):
        flags = set(match.group(1).split())
    found = [flag for flag in CPU_FLAGS if flag in flags]
    detail = ", ".join(f"{flag} ({CPU_FLAGS[flag]})" for flag in found) or "none of those that speed networks up"
    return [
        Finding("cpu", "processor", True, f"{model}, {usable_cores()} of {os.cpu_count()} cores usable"),
        Finding("cpu", "features", bool(found), detail),
    ]


def _backends() -> list[Finding]:
    findings = []
    for name in BACKENDS:
        try:
            backend = load_backend(name)
            reason = backend.unavailable_reason()
            detail = reason or f"precisions {', '.join(backend.precisions)}"
            findings.append(Finding("backend", name, reason is None, detail))
        except VsrError as error:
            findings.append(Finding("backend", name, False, str(error)))
    try:
        findings.append(Finding("backend", "automatic choice", True, choose_backend()[1]))
    except VsrError as error:
        findings.append(Finding("backend", "automatic choice", False, str(error)))
    return findings


def _gpus() -> list[Finding]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return [Finding("gpu", "NVIDIA", False, "no driver found (nvidia-smi); a GPU is optional, the CPU does all")]
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        return [Finding("gpu", "NVIDIA", False, f"nvidia-smi fails: {exc}; reinstall the driver")]
    gpus = [Finding("gpu", "NVIDIA", True, line.strip()) for line in text.splitlines() if line.strip()]
    try:
        usable = load_backend("torch").gpu_name()
    except (VsrError, ImportError):
        usable = None
    hint = "pip install 'vsr[torch]' with a CUDA build of torch"
    return [*gpus, Finding("gpu", "used by torch", usable is not None, usable or hint)]


def _tensorrt() -> list[Finding]:
    findings = []
    for name, (extra, use) in TENSORRT_PARTS.items():
        try:
            findings.append(Finding("tensorrt", name, True, f"{importlib.metadata.version(name)}, {use}"))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding("tensorrt", name, False, f"pip install 'vsr[{extra}]'; {use}"))
    driver = probe()
    if isinstance(driver, str):
        findings.append(Finding("tensorrt", "driver", False, f"{driver}; engines are built without one, not run"))
        return findings
    known = f"CUDA {driver.cuda[0]}.{driver.cuda[1]}, {driver.gpu.name} ({driver.gpu.sm}), {driver.memory >> 30} GiB"
    refusals = [tensorrt_api.driver_refusal(name, driver.cuda) for name in tensorrt_api.PACKAGES]
    refused = next((text for text in refusals if text is not None), None)
    findings.append(Finding("tensorrt", "driver", refused is None, refused or known))
    return findings


def _decoders() -> list[Finding]:
    import av.codec.hwaccel

    if "cuda" not in av.codec.hwaccel.hwdevices_available():
        missing = "this build of PyAV has none; pip install --force-reinstall av; the CPU decodes"
        return [Finding("decoder", "NVDEC", False, missing)]
    driver = probe()
    if isinstance(driver, str):
        return [Finding("decoder", "NVDEC", False, f"{driver}; the CPU decodes")]
    codecs = [codec for codec in EXACT_CODECS if nvdec_refusal(driver.gpu, codec, "yuv420p") is None]
    return [Finding("decoder", "NVDEC", True, f"{', '.join(codecs)} (--hw decode or full)")]


def _encoders() -> list[Finding]:
    findings = []
    for encoder in ENCODERS.values():
        formats = library_formats(encoder)
        missing = f"{encoder.library} is not in this build of PyAV; pip install --force-reinstall av"
        detail = missing if formats is None else f"{encoder.library}, writes {encoder.codec}"
        usable = formats is not None
        if formats and encoder.hardware:
            try:
                try_open(encoder, formats[0], resolve(encoder, formats[0], EncoderRequest()))
            except VsrError as error:
                usable, detail = False, f"{error.message}; the CPU's encoders do all"
        findings.append(Finding("encoder", encoder.name, usable, detail))
    return findings


def _models() -> list[Finding]:
    shipped = shipped_models()
    findings = []
    for scale in sorted({s for _, s in shipped}):
        names = ", ".join(n for n, s in shipped if s == scale)
        findings.append(Finding("model", f"x{scale}", True, f"{names}; default {default_model_name(scale)}"))
    return findings or [Finding("model", "shipped", False, "none; only bicubic works; reinstall vsr")]


def _memory_gib() -> float:
    return memory_size() / (1 << 30)
