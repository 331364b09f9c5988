"""Models: functions of tensors, from pixels to patch tokens to logits; they know no strings, losses or files.

May import errors, config and layers only. Start reading at ``captioner.py``.
"""
