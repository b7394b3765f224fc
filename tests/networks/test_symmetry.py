import pytest

from vsr.errors import ModelError, OptionError

torch = pytest.importorskip("torch")

from tests.networks.shaken import same_answers, shaken  # noqa: E402
from vsr.networks import create  # noqa: E402
from vsr.networks.base import PlainNetwork  # noqa: E402

LAYOUTS = [
    ("residual-8x2-3-3-p4", 2),
    ("residual-16x1-5-1-p4", 3),
    ("residual-8x1-7-1-p4", 4),
    ("residual-8x2-3-3-p4m", 2),
    ("residual-12x1-5-1-p4m", 3),
    ("residual-24x1-3-5-p4m", 4),
]


def moved(y, turn, mirrored):
    return torch.rot90(y.flip(-1) if mirrored else y, turn, (-2, -1))


def ordinary_name(name):
    return name.rpartition("-")[0]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("name", "scale"), LAYOUTS)
def test_the_answer_to_a_moved_picture_is_the_moved_answer(name, scale, mirrored):
    network, ordinary = shaken(name, scale), shaken(ordinary_name(name), scale)
    y = torch.rand(1, 1, 9, 6)
    with torch.no_grad():
        for turn in range(4):
            answer, wanted = network(moved(y, turn, mirrored)), moved(network(y), turn, mirrored)
            known = name.endswith("-p4m") or not mirrored
            assert torch.allclose(answer, wanted, atol=1e-5 if known else 1e-2) == known
        assert not torch.allclose(ordinary(moved(y, 1, mirrored)), moved(ordinary(y), 1, mirrored), atol=1e-2)


@pytest.mark.parametrize(("name", "scale"), LAYOUTS)
def test_what_is_deployed_is_an_ordinary_network_of_the_layout(name, scale):
    network, ordinary = shaken(name, scale), create(ordinary_name(name), scale)
    assert network.plans == ordinary.plans
    assert same_answers(PlainNetwork(network), network, 9, 6)
    assert ordinary.start_from(network.plain())
    assert same_answers(ordinary, network, 9, 6)


def test_a_quarter_of_the_kernels_of_the_body_is_learnt():
    network, ordinary = create("residual-16x2-3-3-p4", 2), create("residual-16x2-3-3", 2)
    assert [len(block.bias) for block in network.blocks] == [4, 4, 4, 4]
    assert [len(block.bias) for block in ordinary.blocks] == [16, 16, 16, 4]


def test_the_body_starts_beside_an_identity():
    for name in ("residual-8x2-3-3-p4", "residual-8x2-3-3-p4m", "residual-8x2-3-3"):
        block = create(name, 2).blocks[1]
        with torch.no_grad():
            block.project.zero_()
        kernel = torch.from_numpy(block.plain().weight)
        centre = kernel[:, :, 1, 1].clone()
        kernel[:, :, 1, 1] = 0.0
        assert torch.equal(centre, torch.eye(8))
        assert not kernel.any()


@pytest.mark.parametrize("symmetry", ["p4", "p4m"])
def test_starts_from_a_network_of_its_symmetry(symmetry):
    source, target = shaken(f"residual-8x2-3-3-{symmetry}", 2), create(f"residual-8x2-5-3-{symmetry}", 2)
    assert target.start_from(source.plain())
    assert same_answers(target, source, 9, 6)
    assert not create(f"residual-8x2-3-3-{symmetry}", 3).start_from(source.plain())


@pytest.mark.parametrize(("symmetry", "others"), [("p4", ""), ("p4m", ""), ("p4m", "-p4")])
def test_does_not_start_from_one_that_does_not_move_so(symmetry, others):
    with pytest.raises(ModelError, match="do not turn or mirror"):
        create(f"residual-8x2-3-3-{symmetry}", 2).start_from(shaken(f"residual-8x2-3-3{others}", 2).plain())


@pytest.mark.parametrize("symmetry", ["p4", "p4m"])
def test_channels_must_come_in_fours(symmetry):
    with pytest.raises(OptionError, match="fours"):
        create(f"residual-10x2-3-3-{symmetry}", 2)
