"""Networks that are not at their start."""

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
