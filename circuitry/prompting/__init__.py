"""Tasks: prompts with a clean and a corrupted version, named positions, and a linter. Imports no torch."""

from .prompts import Prompts, check, lint
from .task import Positions, Task, TaskDefinition, task

__all__ = ["Positions", "Prompts", "Task", "TaskDefinition", "check", "lint", "task"]
