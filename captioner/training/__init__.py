"""The training loop, and the tasks that give it batches and named losses.

May import everything below pipelines and the command line. Start reading at ``recipe.py``, then ``trainer.py``.
"""
