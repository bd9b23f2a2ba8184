"""ONNX files that other tools made: read, understood and quantized without PyTorch."""
