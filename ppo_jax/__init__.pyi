"""The public names and where they live; type checkers and `__init__` read this."""

from ppo_jax.learning.advantages import (
    gae as gae,
)
from ppo_jax.learning.advantages import (
    normalize_advantage as normalize_advantage,
)
from ppo_jax.learning.advantages import (
    successor_value as successor_value,
)
from ppo_jax.learning.config import (
    PPOConfig as PPOConfig,
)
from ppo_jax.learning.gradient_steps import (
    adapt_learning_rate as adapt_learning_rate,
)
from ppo_jax.learning.gradient_steps import (
    optimize as optimize,
)
from ppo_jax.learning.losses import (
    clipped_surrogate as clipped_surrogate,
)
from ppo_jax.learning.losses import (
    clipped_value_loss as clipped_value_loss,
)
from ppo_jax.learning.losses import (
    ppo_loss as ppo_loss,
)
from ppo_jax.learning.losses import (
    squared_value_loss as squared_value_loss,
)
from ppo_jax.learning.optimizers import (
    clip_gradient as clip_gradient,
)
from ppo_jax.learning.ppo import (
    PPO as PPO,
)
from ppo_jax.learning.ppo import (
    make_ppo as make_ppo,
)
from ppo_jax.learning.targets import (
    learning_batch as learning_batch,
)
from ppo_jax.loops.episodes import (
    with_gaps as with_gaps,
)
from ppo_jax.loops.evaluation import (
    Evaluation as Evaluation,
)
from ppo_jax.loops.evaluation import (
    Recording as Recording,
)
from ppo_jax.loops.evaluation import (
    evaluate as evaluate,
)
from ppo_jax.loops.evaluation import (
    record as record,
)
from ppo_jax.loops.pbt import (
    PBTConfig as PBTConfig,
)
from ppo_jax.loops.pbt import (
    evolve as evolve,
)
from ppo_jax.loops.rollout import (
    collect as collect,
)
from ppo_jax.loops.rollout import (
    host_scan as host_scan,
)
from ppo_jax.loops.training import (
    init_run as init_run,
)
from ppo_jax.loops.training import (
    iterate as iterate,
)
from ppo_jax.loops.training import (
    train as train,
)
from ppo_jax.policies.actor_critic import (
    actor_critic as actor_critic,
)
from ppo_jax.policies.actor_critic import (
    from_modules as from_modules,
)
from ppo_jax.policies.distributions import (
    Beta as Beta,
)
from ppo_jax.policies.distributions import (
    Categorical as Categorical,
)
from ppo_jax.policies.distributions import (
    Gaussian as Gaussian,
)
from ppo_jax.policies.models import (
    DistributionConfig as DistributionConfig,
)
from ppo_jax.policies.models import (
    ModelConfig as ModelConfig,
)
from ppo_jax.policies.normalization import (
    RunningStats as RunningStats,
)
from ppo_jax.policies.normalization import (
    init_stats as init_stats,
)
from ppo_jax.policies.normalization import (
    normalize as normalize,
)
from ppo_jax.policies.normalization import (
    update_stats as update_stats,
)
from ppo_jax.runs.config import (
    Config as Config,
)
from ppo_jax.runs.config import (
    parts_of as parts_of,
)
from ppo_jax.types import (
    ActorCritic as ActorCritic,
)
from ppo_jax.types import (
    AdvantageFn as AdvantageFn,
)
from ppo_jax.types import (
    Batch as Batch,
)
from ppo_jax.types import (
    Continuous as Continuous,
)
from ppo_jax.types import (
    Discrete as Discrete,
)
from ppo_jax.types import (
    Distribution as Distribution,
)
from ppo_jax.types import (
    Env as Env,
)
from ppo_jax.types import (
    EnvInfo as EnvInfo,
)
from ppo_jax.types import (
    Hyperparams as Hyperparams,
)
from ppo_jax.types import (
    LossFn as LossFn,
)
from ppo_jax.types import (
    PolicyOutput as PolicyOutput,
)
from ppo_jax.types import (
    Rollout as Rollout,
)
from ppo_jax.types import (
    RunState as RunState,
)
from ppo_jax.types import (
    TimeStep as TimeStep,
)
from ppo_jax.types import (
    TrainState as TrainState,
)
from ppo_jax.types import (
    Transition as Transition,
)
