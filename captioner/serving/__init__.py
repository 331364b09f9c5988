"""The captioner behind an address: HTTP doors of several protocols, one queue, and one process with the model.

Needs the extra ``serve``; only `captioner serve` imports it. Start reading at ``app.py``. ``batching.py`` holds the
queue, ``worker.py`` and ``child.py`` the two ends of the model's process, ``protocols/`` one module per protocol, which
only translates.
"""
