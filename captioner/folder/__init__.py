"""A folder captioned: what is written, what is left as it is, and how a run that was killed goes on.

May import pipelines, evaluation and what lies below. Start reading at ``run.py``; ``plan.py`` says what a person asked
for, ``journal.py`` what a run remembers, ``writers/`` how each kind of output is written.
"""
