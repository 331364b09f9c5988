"""The tasks: the objectives of training stages. The loop knows none of them by name.

May import everything that ``captioner.training`` may. Start reading at ``base.py``.
"""

from captioner.training.tasks.adversarial import Adversarial
from captioner.training.tasks.base import Data, Task
from captioner.training.tasks.cross_entropy import CrossEntropy
from captioner.training.tasks.distillation import Distillation
from captioner.training.tasks.infilling import Infilling
from captioner.training.tasks.labelled_text import LabelledText
from captioner.training.tasks.labels import Labels
from captioner.training.tasks.language_model import LanguageModel
from captioner.training.tasks.multitask import Multitask
from captioner.training.tasks.self_critical import SelfCritical

TASKS: dict[str, type[Task]] = {
    "adversarial": Adversarial,
    "cross_entropy": CrossEntropy,
    "distillation": Distillation,
    "infilling": Infilling,
    "labelled_text": LabelledText,
    "labels": Labels,
    "language_model": LanguageModel,
    "multitask": Multitask,
    "self_critical": SelfCritical,
}

__all__ = ["TASKS", "Data", "Task"]
