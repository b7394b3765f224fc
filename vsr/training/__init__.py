"""Training of the networks: data, loop, evaluation, export to ONNX. Needs the `train` extra (torch, h5py)."""
