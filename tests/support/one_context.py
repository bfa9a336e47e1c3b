"""One context of MLIR for many programs: a new one takes longer than most of them."""

import threading
from functools import wraps

from jax import stages
from jax._src.interpreters import mlir  # nothing public knows of contexts

PROGRAMS = 200  # the constants of all are kept as long as their context


class Shared:
    """What the main thread lowers and compiles at once, one program after the other.

    What it lowers to be compiled later, perhaps by another thread, has its own context.
    """

    def __init__(self, make):
        self.make, self.context, self.left, self.for_later = make, None, 0, 0

    def __call__(self):
        if self.for_later or not in_main_thread():
            return self.make()
        if not self.left:
            self.context, self.left = self.make(), PROGRAMS
        self.left -= 1
        return self.context

    def around(self, lower):
        @wraps(lower)
        def call(*args, **options):
            self.for_later += in_main_thread()
            try:
                return lower(*args, **options)
            finally:
                self.for_later -= in_main_thread()

        return call


def in_main_thread():
    return threading.current_thread() is threading.main_thread()


def share():
    """Lets this process have as few contexts as it can."""
    shared = Shared(mlir.make_ir_context)
    mlir.make_ir_context = shared
    stages.Traced.lower = shared.around(stages.Traced.lower)
