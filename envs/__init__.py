"""Environments by name: `make("Cartpole", 1024)`.

Importing this package loads neither JAX nor a backend; `make` imports what it needs.
"""

import ast
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ppo_jax.options import load, nearest, spellings

if TYPE_CHECKING:
    from ppo_jax.envs.drawing import picture
    from ppo_jax.envs.task import Task, VectorEnv, VectorState, vectorize
    from ppo_jax.types import Env

if __name__ == "envs":  # from the top of a checkout: a second copy of everything
    raise ImportError("the folder envs is the package ppo_jax.envs: import that")

__all__ = [
    "TASKS",
    "Task",
    "VectorEnv",
    "VectorState",
    "describe",
    "is_isaac_task",
    "make",
    "make_task",
    "picture",
    "simulator_of",
    "vectorize",
]

_HOMES = {
    "picture": "drawing",
    **dict.fromkeys(("Task", "VectorEnv", "VectorState", "vectorize"), "task"),
}

# name: (module here, factory, keyword arguments)
TASKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Cartpole": ("cartpole", "Cartpole", {}),
    "Franka-Reach": ("franka_reach", "FrankaReach", {}),
    "Franka-Reach-Pose": ("franka_reach", "FrankaReach", {"orientation": True}),
    "Franka-Lift": ("franka_lift", "FrankaLift", {}),
    "Recall": ("recall", "Recall", {}),
}

# prefix: (module here, factory, description); the factory takes what follows the colon
ADAPTERS: dict[str, tuple[str, str, str]] = {
    "gymnax": ("gymnax_adapter", "make_gymnax", "a gymnax environment"),
    "brax": ("brax_adapter", "make_brax", "a Brax environment"),
    "playground": ("brax_adapter", "make_playground", "a MuJoCo Playground task"),
}

GROUP = "ppo_jax.tasks"  # entry points: factories of tasks that other packages have
SIMULATORS = ("mjlab", "torch", "gymnasium-torch")  # prefixes of tasks that run in one


def simulator_of(task: str) -> str | None:
    """Returns which simulator a task runs in, "isaaclab", or a prefix; None: JAX.

    Raises:
      ImportError: it is called as Isaac Lab's are, but that is not installed.
    """
    prefix, _, name = task.partition(":")
    if name and prefix in SIMULATORS:
        return prefix
    return "isaaclab" if is_isaac_task(task) else None


def is_isaac_task(task: str) -> bool:
    """Returns whether a task is Isaac Lab's, or is called as those are.

    Raises:
      ImportError: it is called as those are, but Isaac Lab is not installed.
    """
    prefix, _, name = task.partition(":")
    if task in TASKS or (name and prefix in ADAPTERS):
        return False
    name = name or prefix
    if not name.startswith("Isaac") and find_spec("isaaclab") is None:
        return False
    from ppo_jax.envs.isaac_lab import registered_tasks

    return name in registered_tasks() or name.startswith("Isaac")


def make(task: str, num_envs: int, clip_actions: float | None = None) -> "Env":
    """Returns `num_envs` environments of a task.

    Args:
      task: a name of `TASKS`, or "gymnax:NAME", "brax:NAME", "playground:NAME";
        Brax takes a backend as well, "brax:ant:mjx". Or one of somebody else: a name
        that an installed package gives it in the group `ppo_jax.tasks`, or
        "module:function" of what returns a task.
      num_envs: N, how many.
      clip_actions: the task sees continuous actions clipped to +- this; None: as is.

    Raises:
      ValueError: there is no such task; names the nearest.
      ImportError: the task needs a package that is not installed; names it.
    """
    from ppo_jax.envs.task import vectorize

    return vectorize(make_task(task), num_envs, clip_actions)


def make_task(task: str) -> "Task":
    """Returns one environment of a task as pure functions; see `make`."""
    prefix, _, name = task.partition(":")
    if name and prefix in ADAPTERS:
        module, factory, _ = ADAPTERS[prefix]
        return getattr(_module(module), factory)(name)
    if task in TASKS:
        module, factory, arguments = TASKS[task]
        return getattr(_module(module), factory)(**arguments)
    others = tasks_of_others()
    if task in others:
        return others[task].load()()
    if name and _is_module(prefix):
        return load(task, "task")()
    prefixes = [f"{prefix}:NAME" for prefix in (*ADAPTERS, *SIMULATORS)]
    known: Sequence[str] = [*TASKS, *others, *prefixes]
    raise ValueError(f"there is no task {task!r}: {nearest(task, known)}")


def tasks_of_others() -> dict[str, EntryPoint]:
    """Returns the tasks that installed packages have, by name."""
    return {found.name: found for found in entry_points(group=GROUP)}


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


def _is_module(name: str) -> bool:
    for spelling in spellings(name):
        with suppress(ImportError):  # what stands before its last dot is none
            if find_spec(spelling) is not None:
                return True
    return False


def describe(task: str) -> str:
    """Returns the first line of what a task's class says of itself.

    It is read, not imported: a list of tasks need not wait for JAX.
    """
    module, factory, _ = TASKS[task]
    path = Path(__file__).with_name(f"{module}.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == factory:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def __getattr__(name: str) -> Any:
    """Returns a name of another module here, imported when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_module(_HOMES[name]), name)
