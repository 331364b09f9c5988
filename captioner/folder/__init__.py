"""Captioning a folder into files, with a journal to resume an interrupted run.

May import pipelines, evaluation and the packages below them. Start reading at ``run.py``; ``plan.py`` holds the
settings of a run, ``journal.py`` its state on disk, ``writers/`` the output formats.
"""
