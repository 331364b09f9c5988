"""The report of `captioner doctor`: the parts of this installation, the reasons for their choice, and warnings.

May import everything below the command line. A probe yields lines; one that fails becomes a line. Start reading at
``report.py``.
"""
