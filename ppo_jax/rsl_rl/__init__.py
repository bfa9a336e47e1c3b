"""From rsl_rl and back: its configurations, its state dicts and its files.

Here belongs what knows how rsl_rl names and lays out things. rsl_rl is never imported,
and torch only to read or write a file.
"""

from ppo_jax.rsl_rl.configurations import config_from_rsl_rl
from ppo_jax.rsl_rl.settings import UnsupportedFeature
from ppo_jax.rsl_rl.weights import params_from_rsl_rl, params_to_rsl_rl

__all__ = [
    "UnsupportedFeature",
    "config_from_rsl_rl",
    "params_from_rsl_rl",
    "params_to_rsl_rl",
]
