"""What a loop can run: one form, two algorithms."""

from ppo_jax.learning.distillation import Distillation
from ppo_jax.learning.ppo import PPO

Algorithm = PPO | Distillation
