"""PPO in JAX as pure functions, with the semantics of rsl_rl."""

from ppo_jax.learning.advantages import gae, normalize_advantage, successor_value
from ppo_jax.learning.config import PPOConfig
from ppo_jax.learning.gradient_steps import adapt_learning_rate, clip_gradient, optimize
from ppo_jax.learning.losses import (
    clipped_surrogate,
    clipped_value_loss,
    ppo_loss,
    squared_value_loss,
)
from ppo_jax.learning.ppo import PPO, make_ppo
from ppo_jax.learning.targets import learning_batch
from ppo_jax.loops.episodes import with_gaps
from ppo_jax.loops.evaluation import Evaluation, Recording, evaluate, record
from ppo_jax.loops.pbt import PBTConfig, evolve
from ppo_jax.loops.rollout import collect, host_scan
from ppo_jax.loops.training import init_run, iterate, train
from ppo_jax.policies.actor_critic import actor_critic, from_modules
from ppo_jax.policies.distributions import Beta, Categorical, Gaussian
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.policies.normalization import (
    RunningStats,
    init_stats,
    normalize,
    update_stats,
)
from ppo_jax.runs.config import Config, parts_of
from ppo_jax.types import (
    ActorCritic,
    AdvantageFn,
    Batch,
    Continuous,
    Discrete,
    Distribution,
    Env,
    EnvInfo,
    Hyperparams,
    LossFn,
    PolicyOutput,
    Rollout,
    RunState,
    TimeStep,
    TrainState,
    Transition,
)

__all__ = [
    "PPO",
    "ActorCritic",
    "AdvantageFn",
    "Batch",
    "Beta",
    "Categorical",
    "Config",
    "Continuous",
    "Discrete",
    "Distribution",
    "DistributionConfig",
    "Env",
    "EnvInfo",
    "Evaluation",
    "Gaussian",
    "Hyperparams",
    "LossFn",
    "ModelConfig",
    "PBTConfig",
    "PPOConfig",
    "PolicyOutput",
    "Recording",
    "Rollout",
    "RunState",
    "RunningStats",
    "TimeStep",
    "TrainState",
    "Transition",
    "actor_critic",
    "adapt_learning_rate",
    "clip_gradient",
    "clipped_surrogate",
    "clipped_value_loss",
    "collect",
    "evaluate",
    "evolve",
    "from_modules",
    "gae",
    "host_scan",
    "init_run",
    "init_stats",
    "iterate",
    "learning_batch",
    "make_ppo",
    "normalize",
    "normalize_advantage",
    "optimize",
    "parts_of",
    "ppo_loss",
    "record",
    "squared_value_loss",
    "successor_value",
    "train",
    "update_stats",
    "with_gaps",
]
