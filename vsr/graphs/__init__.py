"""ONNX graphs: the frame graph around a model, and what can be read off a graph or done to it."""
