"""An exported captioner on ONNX Runtime, in the place of one prepared for torch.

Start reading at ``opening.py``. ``captioner.exporting.onnx`` writes what this package reads; ``layout.py`` holds the
names that both use.
"""
