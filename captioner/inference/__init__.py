"""Inference: a captioner prepared to caption fast, which is never trained and never saved.

Call ``prepare``. The captioner that it prepares stays a function of tensors (``captioner.models``). Importing this
package does not load torch. Start reading at ``checkpoint.py``, then ``prepared.py``.
"""

from captioner.inference.checkpoint import (
    AnyCheckpoint,
    Holder,
    PreparedCheckpoint,
    checkpoint_of,
    load_prepared,
    prepare,
)
from captioner.inference.precision import Precision

__all__ = ["AnyCheckpoint", "Holder", "Precision", "PreparedCheckpoint", "checkpoint_of", "load_prepared", "prepare"]
