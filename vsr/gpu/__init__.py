"""NVIDIA GPUs: their names, their driver, and engines built for them."""
