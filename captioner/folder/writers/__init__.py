"""How each kind of output is written: ``sidecars`` and ``xmp`` a file for a photo, ``tables`` one file for all.

``base`` says what a run asks of them. May import what the room may.
"""
