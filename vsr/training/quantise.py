"""int8 forms of networks: quantised after training, then fine-tuned with the rounding in place.

Weights are rounded for each output channel, symmetrically; the input of each convolution as a whole, to unsigned codes
where it is never negative (after ReLU), to signed ones otherwise, always with zero as code 0. OpenVINO and ONNX Runtime
read that as it is; TensorRT gets it with signed codes (`vsr.graphs.low_precision`). What made the difference on these
networks (docs/benchmarks.md has the figures):

- The ranges are the plain minimum and maximum at first and then learnt (Esser et al., "Learned Step Size
  Quantization", 2020). Range estimators that clip cost whole decibels.
- The first rounding step is that of 8-bit luma, which comes in so: it changes nothing.
- Channels of unequal range are made equal where the activation between two layers allows it (Nagel et al., "Data-Free
  Quantization Through Weight Equalization and Bias Correction", 2019).
- A network without a skip sends the luma itself through its last layer, where 8 bits for a sum of many channels are too
  few. Its int8 form gets a skip: the input is added to the output, and the last layer is fitted anew to what then
  remains, by least squares with the rounding noise as the penalty.
- What is left is fine-tuned towards the output of the full network. Towards the originals, whose distance is fifty
  times the rounding errors, nothing was gained. Where signed codes lose too much, every second step can be one of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vsr.errors import OptionError
from vsr.networks.base import EnlargedNetwork, LumaNetwork, PlainNetwork, TrainingOperations
from vsr.networks.blocks import PlainLayer, activate
from vsr.training.data import PatchData
from vsr.training.evaluate import validation_psnr
from vsr.training.export import OnnxOperations

LUMA_STEP: Final = 1.0 / 255.0
UNSIGNED_CODES: Final = 255
SIGNED_CODES: Final = 127  # of weights, too
EQUALISATIONS: Final = (0.8, 0.9, 1.0)  # tried; 1 makes the ranges of all channels equal, 0 those of their weights
PATCH: Final = 48  # low-resolution pixels a side
CALIBRATION_PATCHES: Final = 256
FITTING_PATCHES: Final = 64
FITTING_ROWS: Final = 40_000
CHECKS: Final = 4  # validations during fine-tuning; the best state stays


@dataclass(frozen=True)
class QuantiseOptions:
    """What decides the int8 form, apart from network and data.

    steps: of fine-tuning, 0 for none; batch: patches a step; lr: Adam's rate at its highest; seed: of patches; signed:
    fine-tune both forms, that with unsigned codes and that with signed ones, which have a bit less.
    """

    steps: int = 1000
    batch: int = 8
    lr: float = 3e-4
    seed: int = 7
    signed: bool = False

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch < 1 or not self.lr > 0:
            raise OptionError(
                f"got steps {self.steps}, batch {self.batch}, lr {self.lr}; allowed are steps >= 0, batch >= 1, lr > 0"
            )


class _Round(torch.autograd.Function):
    """x → step · clamp(round(x / step), low, high); backwards as in "Learned Step Size Quantization"."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        scaled = x / step
        codes = scaled.round().clamp_(low, high)
        ctx.save_for_backward(scaled, codes)
        ctx.bounds = (low, high)
        return codes * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        scaled, codes = ctx.saved_tensors
        low, high = ctx.bounds
        inside = gradient * ((scaled >= low) & (scaled <= high))
        of_step = (gradient * codes).sum() - (inside * scaled).sum()
        return inside, of_step / math.sqrt(scaled[0].numel() * high), None, None


class QuantisedLayer(nn.Module):
    """A convolution with its activation, computed from rounded input and rounded weights.

    Attributes:
        step: of the input's codes; low, high: the smallest and largest of them.
        exact: whether the input is 8-bit luma itself, whose step is not learnt.
        signed: whether unsigned codes are rounded as the signed ones that TensorRT gets, but for luma itself.
        seen: minimum and maximum of each input channel, while observing.
    """

    mask: Tensor

    def __init__(self, layer: PlainLayer) -> None:
        super().__init__()
        self.activation = layer.activation
        self.weight = nn.Parameter(torch.from_numpy(layer.weight.copy()))
        self.bias = nn.Parameter(torch.from_numpy(layer.bias.copy()))
        self.slope = None if layer.slope is None else nn.Parameter(torch.from_numpy(layer.slope.copy()))
        self.step = nn.Parameter(torch.tensor(LUMA_STEP))
        self.register_buffer("mask", self.weight.detach() != 0)  # FSRCNN's last kernel has taps that are always zero
        self.low, self.high, self.exact = 0, UNSIGNED_CODES, False
        self.rounding = self.signed = False
        self.seen: tuple[Tensor, Tensor] | None = None
        self.observing = False

    def codes(self) -> tuple[Tensor, Tensor]:
        """The weights as whole numbers from -127 to 127 [m, n, k, k], and the step of each output channel [m]."""
        weight = self.weight.detach() * self.mask
        step = weight.abs().amax((1, 2, 3)).clamp_min(1e-8) / SIGNED_CODES
        return (weight / step[:, None, None, None]).round(), step

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, n, H, W] → [N, m, H, W]."""
        if self.observing:
            self._observe(x)
        weight = self.weight * self.mask
        if self.rounding:
            codes, steps = self.codes()
            weight = weight + (codes * steps[:, None, None, None] - weight).detach()
            step: Tensor = self.step
            high = self.high
            if self.signed and self.low == 0 and not self.exact:
                step, high = step * (high / SIGNED_CODES), SIGNED_CODES
            x = _Round.apply(x, step, self.low, high)  # type: ignore[no-untyped-call]
        x = F.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)
        return activate(x, self.activation, self.slope)

    def _observe(self, x: Tensor) -> None:
        low, high = x.amin((0, 2, 3)), x.amax((0, 2, 3))
        luma = x / LUMA_STEP
        as_it_comes = x.shape[1] == 1 and bool((luma - luma.round()).abs().max() < 1e-3)
        if self.seen is not None:
            low, high = torch.minimum(low, self.seen[0]), torch.maximum(high, self.seen[1])
            as_it_comes = as_it_comes and self.exact
        self.seen, self.exact = (low, high), as_it_comes

    def fit_range(self) -> None:
        """Set codes and step to what has been seen."""
        assert self.seen is not None
        low, high = float(self.seen[0].min()), float(self.seen[1].max())
        self.low, self.high = (0, UNSIGNED_CODES) if low >= 0 else (-128, 127)
        reach = max(high / self.high, low / self.low if self.low else 0.0, 1e-6)
        with torch.no_grad():
            self.step.fill_(LUMA_STEP if self.exact else reach)
        self.step.requires_grad_(not self.exact)


class QuantisedNetwork(nn.Module):
    """A network in int8, as it is deployed: [N, 1, H, W] float32 in [0, 1] → [N, 1, scale·H, scale·W].

    patches: 8-bit luma in 0 to 1, float32 [N, 1, p, p], from which the ranges are taken. equalisation: how far the
    ranges of a layer's channels are made equal, 0 to 1.
    """

    def __init__(self, network: LumaNetwork, patches: Tensor, equalisation: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(QuantisedLayer(layer) for layer in network.plain())
        self.shape = copy.copy(network)  # how values flow; its own weights are not used
        self.skip_added = False
        in_a_row = type(network).flow in (LumaNetwork.flow, EnlargedNetwork.flow)
        self._calibrate(patches)
        if in_a_row:
            self._equalise(equalisation)
            self._calibrate(patches)
        if type(network).flow is LumaNetwork.flow and not network.skip:
            self._add_skip(patches[:FITTING_PATCHES])
        self._round(True)

    def _layers(self) -> list[QuantisedLayer]:
        return [layer for layer in self.layers if isinstance(layer, QuantisedLayer)]

    def forward(self, y: Tensor) -> Tensor:
        """The int8 network, or the full one while not rounding."""
        return self.shape.flow(TrainingOperations(self._layers()), y)

    def _round(self, rounding: bool) -> None:
        for layer in self._layers():
            layer.rounding = rounding

    def use_signed_codes(self, signed: bool) -> None:
        """Compute as TensorRT will, where unsigned codes become signed ones; or as every other runtime."""
        for layer in self._layers():
            layer.signed = signed

    @torch.no_grad()
    def _calibrate(self, patches: Tensor) -> None:
        for layer in self._layers():
            layer.seen, layer.observing, layer.rounding = None, True, False
        for part in torch.split(patches, 16):
            self(part)
        for layer in self._layers():
            layer.observing = False
            layer.fit_range()

    @torch.no_grad()
    def _equalise(self, share: float) -> None:
        """Between two layers, scale each channel so that its values and the weights that read it share the burden."""
        for first, second in zip(self._layers(), self._layers()[1:], strict=False):
            if first.activation == "tanh" or second.seen is None:
                continue  # ReLU and its kin of c·x are c times those of x, tanh is not
            reach = torch.maximum(second.seen[1], -second.seen[0])
            weights = second.weight.abs().amax((0, 2, 3))
            factor = reach**share / weights.clamp_min(1e-8) ** (1 - share)
            factor = torch.where((reach > 1e-5) & (weights > 1e-5), factor, torch.ones_like(factor))
            factor = factor / factor.log().mean().exp()
            first.weight.div_(factor[:, None, None, None])
            first.bias.div_(factor)
            second.weight.mul_(factor[None, :, None, None])

    @torch.no_grad()
    def _add_skip(self, patches: Tensor) -> None:
        """Add the input to the output, and fit the last layer to the difference.

        For each output channel, least squares over the taps that it has; the ridge is the variance of the rounding
        of its input, step²/12, so that the fit trades exactness against noise as the int8 network will feel it.
        """
        *_, last = self._layers()
        inputs: list[Tensor] = []
        hook = last.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        self(patches)
        hook.remove()
        kernel = last.weight.shape[-1]
        wanted = F.conv2d(inputs[0], last.weight * last.mask, last.bias, padding=kernel // 2) - patches
        every = -(-patches.numel() // FITTING_ROWS)
        rows = [F.unfold(x[None], kernel, padding=kernel // 2)[0].T[::every] for x in inputs[0]]
        seen = torch.cat(rows).double()
        target = torch.cat([w.flatten(1).T[::every] for w in wanted]).double()
        seen_mean, target_mean = seen.mean(0), target.mean(0)
        seen -= seen_mean
        gram = seen.T @ seen / len(seen) + torch.eye(seen.shape[1], dtype=torch.float64) * float(last.step) ** 2 / 12
        moment = seen.T @ (target - target_mean) / len(seen)
        for channel, mask in enumerate(last.mask.flatten(1)):
            taps = mask.nonzero()[:, 0]
            solution = torch.linalg.solve(gram[taps][:, taps], moment[taps, channel])
            last.weight[channel].view(-1)[taps] = solution.float()
            last.bias[channel] = (target_mean[channel] - seen_mean[taps] @ solution).float()
        self.shape.skip = self.skip_added = True

    def operations(self) -> Int8Operations:
        """What writes this network as ONNX nodes."""
        return Int8Operations(self._layers())


class Int8Operations(OnnxOperations):
    """Layers as QuantizeLinear, DequantizeLinear and Conv, which runtimes join to convolutions in int8."""

    def __init__(self, layers: Sequence[QuantisedLayer]) -> None:
        super().__init__([_plain(layer) for layer in layers])
        self._quantised = layers

    def convolution_inputs(self, number: int, x: str) -> tuple[str, str]:
        """Codes of the input and of the weights, and back to their values."""
        layer, label = self._quantised[number], number + 1
        step = self._constant(f"x{label}_step", np.float32(layer.step.item()))
        zero = self._constant(f"x{label}_zero", np.uint8(0) if layer.low == 0 else np.int8(0))
        codes = self._node("QuantizeLinear", [x, step, zero], f"x{label}_codes")
        value = self._node("DequantizeLinear", [codes, step, zero], f"x{label}")
        weight, steps = (t.numpy() for t in layer.codes())
        names = [
            self._constant(f"w{label}_codes", weight.astype(np.int8)),
            self._constant(f"w{label}_step", steps.astype(np.float32)),
            self._constant(f"w{label}_zero", np.zeros(len(steps), np.int8)),
        ]
        return value, self._node("DequantizeLinear", names, f"w{label}", axis=0)


def _plain(layer: QuantisedLayer) -> PlainLayer:
    def array(t: Tensor) -> NDArray[np.float32]:
        return t.detach().numpy().astype(np.float32)

    slope = None if layer.slope is None else array(layer.slope)
    return PlainLayer(array(layer.weight * layer.mask), array(layer.bias), layer.activation, slope)


def quantise(
    network: LumaNetwork,
    data: PatchData,
    options: QuantiseOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> QuantisedNetwork:
    """The int8 form of a network.

    Args:
        network: trained, on the CPU.
        data: of its scale; the patches calibrate and fine-tune, the held-out pictures choose the best state.
        options: default: `QuantiseOptions()`.
        say: called with a line for each validation.
    """
    options = options or QuantiseOptions()
    patches, _ = data.batch(options.seed, options.steps, CALIBRATION_PATCHES)  # a step that fine-tuning never draws
    tried = []
    for share in EQUALISATIONS:
        candidate = QuantisedNetwork(network, torch.from_numpy(patches), share)
        tried.append((_reached(candidate, data, options), candidate))
    best, quantised = max(tried, key=lambda pair: pair[0])
    say(f"after calibration: {best:.3f} dB on the validation pictures")
    if options.steps:
        _fine_tune(quantised, network, data, options, best, say)
    return quantised


def _reached(network: QuantisedNetwork, data: PatchData, options: QuantiseOptions) -> float:
    """PSNR in dB on the validation pictures, of the form with unsigned codes, which it leaves, or the mean of both."""
    figures = []
    for signed in (True, False) if options.signed else (False,):
        network.use_signed_codes(signed)
        figures.append(validation_psnr(data.validation, network.shape.scale, network))
    return sum(figures) / len(figures)


def _fine_tune(
    network: QuantisedNetwork,
    full: LumaNetwork,
    data: PatchData,
    options: QuantiseOptions,
    best: float,
    say: Callable[[str], None],
) -> None:
    """Towards the full network's output: the originals, which no network reaches, would drown the rounding errors."""
    teacher = PlainNetwork(full)
    state = copy.deepcopy(network.state_dict())
    steps = [p for name, p in network.named_parameters() if name.endswith("step") and p.requires_grad]
    others = [p for name, p in network.named_parameters() if not name.endswith("step")]
    optimiser = torch.optim.Adam([{"params": others}, {"params": steps}], lr=options.lr)
    start = [float(p.detach()) for p in steps]
    warm = max(1, options.steps // 20)
    for number in range(options.steps):
        rate = options.lr * min(1.0, (number + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * number / options.steps))
        # Adam's steps are of the rate's size whatever the parameter's: a range of 2 and a step of 2/255 learn alike so
        optimiser.param_groups[0]["lr"] = rate
        optimiser.param_groups[1]["lr"] = rate * 10 * float(np.mean(start)) if start else rate
        network.use_signed_codes(options.signed and number % 2 == 1)
        low = torch.from_numpy(data.batch(options.seed, number, options.batch)[0])
        loss = F.mse_loss(network(low), teacher(low))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (number + 1) * CHECKS // options.steps > number * CHECKS // options.steps:
            reached = _reached(network, data, options)
            say(f"step {number + 1}/{options.steps}: {reached:.3f} dB")
            if reached > best:
                best, state = reached, copy.deepcopy(network.state_dict())
    network.load_state_dict(state)
