"""The tasks, one page each: a module here with a `TASK` is a task, and nothing else lists them.

Imports: reskeras.spec, reskeras.tasks.
Imported by: reskeras.tasks.
"""

import importlib
import pkgutil
from typing import Any


def all_tasks() -> tuple[Any, ...]:
    """The tasks of all modules here, in the order of `ORDER`, then of their modules' names.

    Where data could be several tasks', the first one takes them.
    """
    modules = [
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
    ]
    return tuple(module.TASK for module in sorted(modules, key=lambda m: getattr(m, "ORDER", 100)))
