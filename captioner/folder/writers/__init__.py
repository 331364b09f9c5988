"""Writers of the output formats: ``sidecars`` and ``xmp`` write a file per photo, ``tables`` one file for all.

``base`` defines their interface.
"""
