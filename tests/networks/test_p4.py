import pytest

from vsr.errors import ModelError, OptionError

torch = pytest.importorskip("torch")

from tests.networks.shaken import same_answers, shaken  # noqa: E402
from vsr.networks import create  # noqa: E402
from vsr.networks.base import PlainNetwork  # noqa: E402

LAYOUTS = [("residual-8x2-3-3-p4", 2), ("residual-16x1-5-1-p4", 3), ("residual-8x1-7-1-p4", 4)]


def turned(y, turn):
    return torch.rot90(y, turn, (-2, -1))


@pytest.mark.parametrize(("name", "scale"), LAYOUTS)
def test_the_answer_to_a_turned_picture_is_the_turned_answer(name, scale):
    network = shaken(name, scale)
    y = torch.rand(1, 1, 9, 6)
    with torch.no_grad():
        for turn in range(1, 4):
            assert torch.allclose(network(turned(y, turn)), turned(network(y), turn), atol=1e-5)
        ordinary = shaken(name.removesuffix("-p4"), scale)
        assert not torch.allclose(ordinary(turned(y, 1)), turned(ordinary(y), 1), atol=1e-2)


@pytest.mark.parametrize(("name", "scale"), LAYOUTS)
def test_what_is_deployed_is_an_ordinary_network_of_the_layout(name, scale):
    network, ordinary = shaken(name, scale), create(name.removesuffix("-p4"), scale)
    assert network.plans == ordinary.plans
    assert same_answers(PlainNetwork(network), network, 9, 6)
    assert ordinary.start_from(network.plain())
    assert same_answers(ordinary, network, 9, 6)


def test_a_quarter_of_the_kernels_of_the_body_is_learnt():
    network, ordinary = create("residual-16x2-3-3-p4", 2), create("residual-16x2-3-3", 2)
    assert [len(block.bias) for block in network.blocks] == [4, 4, 4, 4]
    assert [len(block.bias) for block in ordinary.blocks] == [16, 16, 16, 4]


def test_the_body_starts_beside_an_identity():
    for name in ("residual-8x2-3-3-p4", "residual-8x2-3-3"):
        block = create(name, 2).blocks[1]
        with torch.no_grad():
            block.project.zero_()
        kernel = torch.from_numpy(block.plain().weight)
        centre = kernel[:, :, 1, 1].clone()
        kernel[:, :, 1, 1] = 0.0
        assert torch.equal(centre, torch.eye(8))
        assert not kernel.any()


def test_starts_from_a_network_that_turns():
    source, target = shaken("residual-8x2-3-3-p4", 2), create("residual-8x2-5-3-p4", 2)
    assert target.start_from(source.plain())
    assert same_answers(target, source, 9, 6)
    assert not create("residual-8x2-3-3-p4", 3).start_from(source.plain())


def test_does_not_start_from_one_that_does_not():
    with pytest.raises(ModelError, match="do not turn with the picture"):
        create("residual-8x2-3-3-p4", 2).start_from(shaken("residual-8x2-3-3", 2).plain())


def test_channels_must_come_in_fours():
    with pytest.raises(OptionError, match="fours"):
        create("residual-10x2-3-3-p4", 2)
