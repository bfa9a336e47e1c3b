"""Weights of which a test needs the shapes, and that they are not those of a start."""

import jax
import numpy as np

ONES = ("scale", "spread")  # what starts at one


def drawn(init, *args, seed=0):
    """Returns what `init` would, parameters and statistics, with random numbers.

    Only the shapes are taken from it: drawing a start is dozens of programs.
    """
    rng = np.random.default_rng(seed)
    vary = lambda x: np.array(rng.uniform(0.5, 2.0, x.shape), np.float32)
    params, stats = jax.eval_shape(init, *args)
    return weights(params, rng), jax.tree.map(vary, stats)


def weights(shapes, rng):
    """Returns parameters of these shapes: those of a norm about one, others zero."""

    def move(path, x):
        start = 1.0 if path[-1].key in ONES else 0.0
        return np.array(rng.normal(start, 0.3, x.shape), np.float32)

    return jax.tree_util.tree_map_with_path(move, shapes)
