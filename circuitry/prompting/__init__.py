"""Tasks: prompts with a clean and a corrupted version, named positions, and a linter. Imports no torch."""

from .definition import TaskDefinition
from .example import Example, stack
from .from_file import definition_from_file
from .front import front
from .prompts import Prompts, check, lint
from .task import Positions, Task, task
from .vocabulary import Vocabulary

__all__ = [
    "Example",
    "Positions",
    "Prompts",
    "Task",
    "TaskDefinition",
    "Vocabulary",
    "check",
    "definition_from_file",
    "front",
    "lint",
    "stack",
    "task",
]
