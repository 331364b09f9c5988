"""Models: functions of tensors, from pixels to patch tokens to logits, without strings, losses or files.

May import errors, config and layers only. Start reading at ``captioner.py``.
"""
