import subprocess
import sys

import pytest

from vsr.errors import ModelError, OptionError

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from vsr.networks import NAMES, create  # noqa: E402
from vsr.networks.base import PlainNetwork  # noqa: E402
from vsr.networks.blocks import LayerPlan, LinearBlock, interpolation_kernel  # noqa: E402
from vsr.networks.fsrcnn import PADDING, deconvolution_to_subpixel  # noqa: E402

ALL = [(name, scale) for name in NAMES for scale in (2, 3, 4)]


def shaken(name, scale, seed=0):
    """A network away from its start, as after some training."""
    torch.manual_seed(seed)
    network = create(name, scale)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return network


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_output_is_scale_times_the_input(name, scale):
    network = create(name, scale)
    for height, width in ((1, 1), (2, 5), (9, 7)):
        out = network(torch.rand(2, 1, height, width))
        assert out.shape == (2, 1, scale * height, scale * width)
        assert out.dtype == torch.float32


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "activation"), [("espcn", "relu"), ("espcn-tanh", "tanh")])
def test_espcn_has_the_papers_size(name, activation, scale):
    network = create(name, scale)
    # paper, section 4.1: 5-3-3 with 64 and 32 channels
    assert network.macs == 25 * 64 + 9 * 64 * 32 + 9 * 32 * scale**2
    assert network.parameters_deployed == network.macs + 64 + 32 + scale**2
    assert network.halo == 4
    assert [plan.activation for plan in network.plans] == [activation, activation, "none"]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_fsrcnn_has_the_papers_size(scale):
    network = create("fsrcnn", scale)
    # paper, table 1: 12,464 weights for (56, 12, 4), whatever the scale; masked taps are not weights
    assert sum(int(block.mask.sum()) for block in network.blocks) == 12464
    assert [(plan.inputs, plan.outputs) for plan in network.plans][:-1] == [
        (1, 56),
        (56, 12),
        *[(12, 12)] * 4,
        (12, 56),
    ]
    assert all(plan.activation == "prelu" for plan in network.plans[:-1])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_own_networks_stay_within_their_budget(scale):
    assert create("fast", scale).macs <= 12464
    assert create("balanced", scale).macs <= create("espcn", scale).macs


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_collapsed_network_equals_the_trained_one(name, scale):
    network = shaken(name, scale)
    plain = PlainNetwork(network.plain(), scale, skip=network.skip)
    y = torch.rand(1, 1, 11, 14)
    with torch.no_grad():
        assert torch.allclose(plain(y), network(y), atol=1e-6)


@pytest.mark.parametrize("plan", [LayerPlan(1, 6, 5, "relu"), LayerPlan(6, 4, 3), LayerPlan(5, 5, 1, "tanh")])
def test_a_block_is_its_three_convolutions_and_the_base(plan):
    torch.manual_seed(3)
    block = LinearBlock(plan, width=9, gain=1.0)
    with torch.no_grad():
        block.base.normal_()
        block.bias.normal_()
        x = torch.randn(2, plan.inputs, 8, 9)
        half = plan.kernel // 2
        h = x if block.expand is None else F.conv2d(x, block.expand[:, :, None, None])
        h = F.conv2d(h, block.middle, padding=half)
        wanted = F.conv2d(h, block.project[:, :, None, None], block.bias) + F.conv2d(x, block.base, padding=half)
        wanted = {"relu": F.relu, "tanh": torch.tanh}.get(plan.activation, lambda t: t)(wanted)
        assert torch.allclose(block(x), wanted, atol=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_subpixel_form_equals_the_deconvolution(scale):
    torch.manual_seed(scale)
    padding, output_padding = PADDING[scale]
    weight = torch.randn(56, 1, 9, 9, dtype=torch.float64)
    x = torch.randn(2, 56, 7, 10, dtype=torch.float64)
    wanted = F.conv_transpose2d(x, weight, stride=scale, padding=padding, output_padding=output_padding)
    kernel = deconvolution_to_subpixel(weight, scale)
    out = F.pixel_shuffle(F.conv2d(x, kernel, padding=kernel.shape[-1] // 2), scale)
    assert out.shape == wanted.shape == (2, 1, 7 * scale, 10 * scale)
    assert torch.allclose(out, wanted, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 4])
def test_masked_taps_stay_zero(scale):
    last = shaken("fsrcnn", scale).plain()[-1]
    zero = deconvolution_to_subpixel(torch.ones(56, 1, 9, 9), scale).numpy() == 0
    assert zero.any()
    assert (last.weight[zero] == 0).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_interpolation_kernel_enlarges_as_torch_does(scale):
    y = torch.rand(1, 1, 8, 9)
    out = F.pixel_shuffle(F.conv2d(F.pad(y, [1] * 4, mode="replicate"), interpolation_kernel(scale, 3)), scale)
    assert torch.allclose(out, F.interpolate(y, scale_factor=scale, mode="bilinear"), atol=1e-6)


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_what_a_network_starts_around_already_enlarges(name, scale):
    network = create(name, scale)
    with torch.no_grad():
        for block in network.blocks:
            block.project.zero_()  # leaves the fixed base: the path that carries the picture
        y = torch.rand(1, 1, 9, 10)
        mode = "nearest" if network.skip else "bilinear"
        error = (network(y) - F.interpolate(y, scale_factor=scale, mode=mode))[..., scale:-scale, scale:-scale]
    assert float(error.abs().max()) < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_halo_is_how_far_an_output_looks(name):
    network = shaken(name, 2)
    plain = PlainNetwork(network.plain(), 2, skip=network.skip)
    size = 4 * network.halo + 3
    middle = size // 2
    y = torch.rand(1, 1, size, size)
    far, near = y.clone(), y.clone()
    far[..., middle + network.halo + 1 :] += 0.5
    near[..., middle + network.halo :] += 0.5
    pixel = (..., slice(2 * middle, 2 * middle + 2), slice(2 * middle, 2 * middle + 2))
    assert torch.equal(plain(far)[pixel], plain(y)[pixel])
    if network.name != "fsrcnn":  # whose untrained far taps are too faint to show
        assert not torch.equal(plain(near)[pixel], plain(y)[pixel])


@pytest.mark.parametrize("name", NAMES)
def test_starting_from_layers_gives_the_same_network(name):
    source, target = shaken(name, 3), create(name, 3)
    assert target.start_from(source.plain())
    y = torch.rand(1, 1, 9, 9)
    with torch.no_grad():
        assert torch.allclose(target(y), source(y), atol=1e-6)


def test_starting_from_another_scale_takes_all_but_the_last_layer():
    source, target = shaken("balanced", 2), create("balanced", 3)
    before = target.plain()[-1]
    assert not target.start_from(source.plain())
    assert (target.plain()[4].weight == source.plain()[4].weight).all()
    assert (target.plain()[-1].weight == before.weight).all()


def test_starting_from_another_network_is_refused():
    with pytest.raises(ModelError, match="espcn"):
        create("espcn", 2).start_from(create("fsrcnn", 2).plain())
    with pytest.raises(ModelError):
        create("espcn", 2).start_from(create("espcn-tanh", 2).plain())


def test_unknown_names_and_scales_are_refused():
    with pytest.raises(OptionError, match=r"edsr.*espcn"):
        create("edsr", 2)
    for name in NAMES:
        with pytest.raises(OptionError, match="2, 3, 4"):
            create(name, 5)


def test_listing_names_does_not_import_torch():
    code = "import sys, vsr.networks; assert vsr.networks.NAMES; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
