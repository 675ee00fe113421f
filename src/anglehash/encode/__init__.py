"""Images to codes from a bundle: ONNX Runtime, and neither torch nor scikit-learn."""
