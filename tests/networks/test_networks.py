import subprocess
import sys

import numpy as np
import pytest

from vsr.errors import ModelError, OptionError

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from tests.networks.shaken import same_answers, shaken  # noqa: E402
from vsr.networks import NAMES, create  # noqa: E402
from vsr.networks.base import EnlargedNetwork, PlainNetwork  # noqa: E402
from vsr.networks.blocks import LayerPlan, LinearBlock, activate, interpolation_kernel  # noqa: E402
from vsr.networks.fsrcnn import PADDING, deconvolution_to_subpixel  # noqa: E402
from vsr.resample import imresize  # noqa: E402

ALL = [(name, scale) for name in NAMES for scale in (2, 3, 4)]


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
def test_fsrcnn_s_has_the_papers_size(scale):
    network = create("fsrcnn-s", scale)
    # paper, table 3: 3,937 weights
    assert sum(int(block.mask.sum()) for block in network.blocks) == 3937
    assert network.name == "fsrcnn-s"


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "weights"), [("srcnn", 57184), ("srcnn-9-1-5", 8032)])
def test_srcnn_has_the_papers_size(name, weights, scale):
    network = create(name, scale)
    # paper, section 4.3.1: 57,184 and 8,032 weights for 9-5-5 and 9-1-5
    assert sum(plan.macs for plan in network.plans) == weights
    assert network.parameters_deployed == weights + 64 + 32 + 1
    assert network.macs == weights * scale**2  # it works on enlarged pixels
    assert [plan.activation for plan in network.plans] == ["relu", "relu", "none"]


def test_the_autoencoder_has_the_tutorials_size():
    network = create("autoencoder", 2)
    weights = [576, 36864, 73728, 147456, 294912, 294912, 147456, 73728, 36864, 576]
    assert [plan.macs for plan in network.plans] == weights
    assert network.parameters_deployed == sum(weights) + 64 * 4 + 128 * 4 + 256 + 1
    assert network.macs == 4 * 332_928


def test_the_autoencoder_is_the_tutorials_graph():
    """Against the tutorial's layers, written out with torch's own modules."""
    network = shaken("autoencoder", 2)
    with torch.no_grad():
        y = torch.rand(1, 1, 6, 8)  # 12x16 enlarged: 4 divides both
        repeated = np.pad(y[0, 0].numpy(), 3, mode="edge")  # MATLAB would mirror
        image = torch.from_numpy(imresize(repeated, 2)[6:-6, 6:-6]).float()[None, None]
        conv = [
            lambda x, p=p: F.relu(F.conv2d(x, *map(torch.from_numpy, (p.weight, p.bias)), padding=1))
            for p in network.plain()
        ]
        full = conv[1](conv[0](image))
        half = conv[3](conv[2](F.max_pool2d(full, 2)))
        x = conv[4](F.max_pool2d(half, 2))
        x = conv[6](conv[5](torch.nn.Upsample(scale_factor=2)(x))) + half
        x = conv[8](conv[7](torch.nn.Upsample(scale_factor=2)(x))) + full
        got = network(y)
        assert got.shape == (1, 1, 12, 16)
        assert torch.allclose(conv[9](x), got, atol=1e-4)


def test_activations_of_the_autoencoder_are_regularised_while_it_trains():
    network = create("autoencoder", 2)
    network(torch.rand(2, 1, 8, 8))
    assert 0 < float(network.penalty.detach()) < 0.01
    network.penalty.backward()
    assert network.blocks[4].project.grad.abs().sum() > 0


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_own_networks_stay_within_their_budget(scale):
    assert create("fast", scale).macs <= create("fsrcnn", scale).macs
    assert create("balanced", scale).macs <= create("espcn", scale).macs
    assert create("best", scale).macs <= 60_000
    if scale != 3:  # so that the trunk of one scale can start the other's
        assert create("best", scale).plans[:-1] == create("best", 2).plans[:-1]


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_collapsed_network_equals_the_trained_one(name, scale):
    network = shaken(name, scale)
    assert same_answers(PlainNetwork(network), network, 11, 14)


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
        if isinstance(network, EnlargedNetwork):
            wanted = torch.from_numpy(imresize(y[0, 0].numpy(), scale)).clamp(min=0)  # by the ReLUs
        else:
            wanted = F.interpolate(y, scale_factor=scale, mode="nearest" if network.skip else "bilinear")
        # next to a border, MATLAB mirrors where the others repeat
        inner = (..., slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
        error = network(y)[inner] - wanted[inner]
    assert float(error.abs().max()) < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_halo_is_how_far_an_output_looks(name):
    network = shaken(name, 2)
    plain = PlainNetwork(network)
    size = 2 * network.halo + 5
    y = torch.rand(1, 1, size, size)
    seen = []
    for middle in (size // 2, size // 2 + 1):  # the auto-encoder's pooling makes odd and even places differ
        pixel = (..., slice(2 * middle, 2 * middle + 2), slice(2 * middle, 2 * middle + 2))
        for far, near in (
            (slice(middle + network.halo + 1, None), slice(middle + network.halo, None)),
            (slice(0, middle - network.halo), slice(0, middle - network.halo + 1)),
        ):
            there = [y.clone(), y.clone()]
            there[0][..., far] += 0.5
            there[1][..., near] += 0.5
            assert torch.equal(plain(there[0])[pixel], plain(y)[pixel])
            seen.append(not torch.equal(plain(there[1])[pixel], plain(y)[pixel]))
    if not name.startswith(("fsrcnn", "autoencoder")):  # whose untrained far taps are too faint to show
        assert any(seen)


@pytest.mark.parametrize("name", NAMES)
def test_starting_from_layers_gives_the_same_network(name):
    source, target = shaken(name, 3), create(name, 3)
    assert target.start_from(source.plain())
    assert same_answers(target, source)


def test_starting_from_another_scale_takes_all_but_the_last_layer():
    source, target = shaken("fast", 2), create("fast", 3)
    before = target.plain()[-1]
    assert not target.start_from(source.plain())
    assert (target.plain()[4].weight == source.plain()[4].weight).all()
    assert (target.plain()[-1].weight == before.weight).all()


def test_starting_from_smaller_kernels_computes_the_same():
    source, target = shaken("residual-8x2-3-1", 2), create("residual-8x2-5-3", 2)
    assert target.start_from(source.plain())
    assert same_answers(target, source)
    with pytest.raises(ModelError, match="residual-8x2-3-1"):
        source.start_from(target.plain())


def test_starting_from_another_network_is_refused():
    with pytest.raises(ModelError, match="espcn"):
        create("espcn", 2).start_from(create("fsrcnn", 2).plain())
    with pytest.raises(ModelError):
        create("espcn", 2).start_from(create("espcn-tanh", 2).plain())


def test_unknown_names_and_scales_are_refused():
    with pytest.raises(OptionError, match=r"edsr.*espcn"):
        create("edsr", 2)
    assert create("fast-compressed", 2).name == "fast-compressed"
    for name in NAMES:
        with pytest.raises(OptionError, match="2, 3, 4"):
            create(name, 5)


def test_a_layout_of_the_own_family_is_named_by_its_numbers():
    for name, layout in (("fast", "residual-16x5-5-1"), ("balanced", "residual-16x9-3-3")):
        assert create(layout, 3).plans == create(name, 3).plans
    prelu = create("residual-12x2-3-1-prelu", 2)
    assert prelu.name == "residual-12x2-3-1-prelu"
    assert [plan.activation for plan in prelu.plans] == ["prelu", "prelu", "prelu", "none"]
    assert prelu.plans[1].inputs == 12
    for wrong in ("residual-12x2-4-1", "residual-0x2-3-1", "residual-12x2", "residual-12x2-3-1-tanh"):
        with pytest.raises(OptionError, match="residual-"):
            create(wrong, 2)


def test_balanced_has_fifteen_channels_once_at_x2_so_that_a_3x3_fits_at_its_end():
    widths = [plan.outputs for plan in create("balanced", 2).plans]
    assert widths == [16, 16, 16, 16, 16, 15, 16, 16, 16, 16, 4]
    assert create("balanced", 2).macs == 21_168  # with 16 it would be 272 beyond ESPCN's 21,184
    assert create("balanced", 2).plans[-1].kernel == 3


def test_a_layer_of_other_widths_starts_as_the_identity_of_what_both_have():
    narrowing, widening = (LinearBlock(LayerPlan(n, m, 3), width=8, gain=0.0) for n, m in ((4, 3), (3, 4)))
    for block in (narrowing, widening):
        block.start_as_identity()
    x = torch.rand(1, 4, 5, 6)
    with torch.no_grad():
        y = widening(narrowing(x))
    assert torch.equal(y[:, :3], x[:, :3])
    assert not y[:, 3].any()


def test_a_leaky_relu_keeps_a_fifth_of_what_is_below_zero():
    x = torch.tensor([-1.0, 0.0, 2.0])
    assert activate(x.clone(), "leaky", None).tolist() == pytest.approx([-0.2, 0.0, 2.0])
    torch.manual_seed(5)
    leaky, relu = create("residual-8x1-3-3-leaky", 2), create("residual-8x1-3-3", 2)
    with pytest.raises(ModelError, match="not those of a network residual-8x1-3-3"):
        relu.start_from(leaky.plain())


def test_listing_names_does_not_import_torch():
    code = "import sys, vsr.networks; assert vsr.networks.NAMES; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
