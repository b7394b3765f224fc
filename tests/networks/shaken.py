"""Networks that are not at their start, and whether two compute the same."""

import torch

from vsr.networks import create


def shaken(name, scale, seed=0):
    """A network away from its start, as after some training."""
    torch.manual_seed(seed)
    network = create(name, scale)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return network


def same_answers(one, other, height=9, width=9):
    """Whether both give the same picture, to the rounding of float32, for random luma of this size."""
    y = torch.rand(1, 1, height, width)
    with torch.no_grad():
        return torch.allclose(one(y), other(y), atol=1e-6)
