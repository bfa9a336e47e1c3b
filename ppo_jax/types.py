"""The vocabulary: every array structure and interface that the modules share.

Letters in the shape comments: T steps, N environments, B flat samples, A action,
D observation; time first.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

Array = jax.Array
Scalar = jax.Array | float
Key = jax.Array  # a typed key, jax.random.key
Obs = dict[str, Array]  # {group: [N, ...]}
Params = Any
Metrics = dict[str, Array]


@dataclass(frozen=True)
class Continuous:
    """A space of real action vectors, unbounded unless the task clips them."""

    dim: int


@dataclass(frozen=True)
class Discrete:
    """A space of `num_actions` actions 0, 1, ...; an action is an int32 scalar."""

    num_actions: int


ActionSpace = Continuous | Discrete


class Hyperparams(NamedTuple):
    """The dynamic scalars: traced, so a new value never recompiles; `vmap` over them.

    Names and meanings are those of rsl_rl. Where `schedule` is "adaptive",
    `learning_rate` is where the rate starts; where it is "fixed", it is the rate.
    """

    learning_rate: Scalar = 1e-3
    gamma: Scalar = 0.99
    lam: Scalar = 0.95
    clip_param: Scalar = 0.2
    value_loss_coef: Scalar = 1.0
    entropy_coef: Scalar = 0.01
    max_grad_norm: Scalar = 1.0
    desired_kl: Scalar = 0.01


class TimeStep(NamedTuple):
    """What N auto-resetting environments return from one step.

    Where both ends are set the step is terminated.
    """

    obs: Obs  # {group: [N, ...]}, the first of the new episode where done
    reward: Array  # [N]
    terminated: Array  # [N] bool, the MDP ended: no value beyond
    truncated: Array  # [N] bool, the episode was cut: value continues
    final_obs: Obs | None  # {group: [N, ...]} before the auto-reset; None: unknown
    log: dict[str, Array]  # {tag: [N]} of the episode, read where it ends


class PolicyOutput(NamedTuple):
    """What acting yields: enough to step the environment and to learn from it later."""

    action: Array  # [N, A] or, discrete, [N]
    log_prob: Array  # [N]
    distribution: "Distribution"  # of [N, ...]
    carry: Any  # memory of a recurrent policy, also where done; () without one
    target: Array | tuple[()] = ()  # [N, A] a teacher's action; () without one


class Transition(NamedTuple):
    """One step as the update needs it; a rollout stacks T of them."""

    obs: Obs  # {group: [N, ...]}, what was acted on
    action: Array  # [N, A] or [N]
    log_prob: Array  # [N]
    distribution: "Distribution"
    reward: Array  # [N]
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool
    final_value: Array | tuple[()]  # [N] V(final_obs), read where truncated
    target: Array | tuple[()] = ()  # [N, A] a teacher's action; () without one


class Rollout(NamedTuple):
    """T steps of N environments, and where they led."""

    steps: Transition  # [T, N, ...]
    last_obs: Obs  # {group: [N, ...]}
    first_carry: Any  # memory before the first step; () without one


class Batch(NamedTuple):
    """What the loss of one minibatch reads. Leading axes are the samples."""

    obs: Any  # the network's own view of the observations, see ActorCritic.prepare
    action: Array  # [B, A] or [B]
    log_prob: Array  # [B], of the behaviour policy
    distribution: "Distribution"  # of the behaviour policy
    value: Array  # [B], before the update
    value_target: Array  # [B]
    advantage: Array  # [B], normalised
    copies: Any = ()  # mirrored, see `learning.symmetry`; () without a symmetry


class TrainState(NamedTuple):
    """All that is learned."""

    params: Params
    obs_stats: Any  # running statistics of the observations, per model
    opt_state: Any
    learning_rate: Array  # [] state, not part of the optimizer: the KL rule moves it
    iteration: Array  # [] int32, updates done (env steps would overflow)
    rnd: Any = ()  # predictor and target of `learning.rnd`; () without it


class EpisodeStats(NamedTuple):
    """Running sums of the current episodes and a ring of the last finished ones."""

    episode_return: Array  # [N]
    episode_length: Array  # [N] int32
    recent_return: Array  # [R]
    recent_length: Array  # [R]
    num_finished: Array  # [] int32, since the start; the ring holds the last R


class RunState(NamedTuple):
    """Everything that a run needs to go on, bit for bit."""

    train: TrainState
    env_state: Any
    obs: Obs
    carry: Any
    episodes: EpisodeStats
    key: Key
    rnd: Any = ()  # sums that the next intrinsic reward depends on; () without one


class Distribution(Protocol):
    """A batch of action distributions: a NamedTuple of arrays with these methods."""

    def sample(self, key: Key) -> Array:
        """Draws one action per distribution."""
        ...

    def log_prob(self, action: Array) -> Array:
        """Returns the log density (or mass) of each action, summed over A; nats."""
        ...

    def entropy(self) -> Array:
        """Returns the entropy of each distribution, summed over A; nats."""
        ...

    def kl_divergence(self, other: Any) -> Array:
        """Returns KL(self || other) of each pair, summed over A; nats."""
        ...

    def mode(self) -> Array:
        """Returns the deterministic action, as rsl_rl plays it."""
        ...

    def spread(self) -> Array:
        """Returns the standard deviation of each action dimension."""
        ...


class Sequence(NamedTuple):
    """What a recurrent network reads in the update: steps in time, whole episodes."""

    obs: Array  # [T, N, D]
    memory: Any  # [1, N, ...] before the first step
    is_first: Array  # [T, N] bool, where an episode begins, and the memory with it


class Recurrence(NamedTuple):
    """How a network remembers. Its pure functions, beside those of `ActorCritic`.

    A carry is {"actor": memory, "critic": memory}, [N, ...] each: zeros where an
    episode begins, () of a part without memory.
    """

    initial: Callable[[Obs], Any]  # obs {group: [N, ...]} -> carry
    step: Callable[..., Any]  # (params, inputs, carry) -> (Distribution, carry)
    value: Callable[..., Array]  # (params, inputs, carry) -> [N], of what comes next
    unroll: Callable[..., Any]  # (inputs [T], carry, is_first [T, N]) -> Sequence s
    # As `policy` and `value` of these, but both at once: (params, Sequence s) -> both
    policy_and_value: Callable[..., tuple[Any, Array]] | None = None


class ActorCritic(NamedTuple):
    """A policy and a value function as pure functions of their parameters.

    `params` is {"actor": ..., "critic": ...}, or a dict of other parts, for instance
    one that both share; the gradient of each part is clipped apart.
    `prepare` turns raw groups into what `policy` and `value` read: it selects and
    normalises, once for a whole rollout, since the statistics stand still meanwhile.
    With a `recurrence`, `policy` and `value` read what its `unroll` returns.
    `update_stats` takes the name of a mesh axis, `axis=`, where a policy learns on many
    devices.
    """

    init: Callable[[Key, Obs], tuple[Params, Any]]  # -> (params, obs_stats)
    prepare: Callable[[Any, Obs], Any]  # (obs_stats, obs) -> inputs
    policy: Callable[[Params, Any], Any]  # (params, inputs) -> Distribution
    value: Callable[[Params, Any], Array]  # (params, inputs) -> [...]
    update_stats: Callable[..., Any]  # (obs_stats, obs [T, N, ...]) -> obs_stats
    recurrence: Recurrence | None = None  # of a network with memory
    shared: tuple[str, ...] = ()  # parts of params["actor"] that `value` reads too

    def policy_and_value(self, params: Params, inputs: Any) -> tuple[Any, Array]:
        """Returns both, in one pass through time if the network has memory."""
        if self.recurrence and self.recurrence.policy_and_value:
            return self.recurrence.policy_and_value(params, inputs)
        return self.policy(params, inputs), self.value(params, inputs)


class AdvantageFn(Protocol):
    """Judges the actions of a rollout; `gae` is one. The critic learns A + V."""

    def __call__(
        self,
        reward: Array,
        value: Array,
        next_value: Array,
        terminated: Array,
        truncated: Array,
        *,
        gamma: Scalar,
        lam: Scalar,
    ) -> Array:
        """Returns the advantage [T, N], not normalised; the arguments are `gae`'s."""
        ...


# ({group: [B, ...]} or None, [B, A] or None) -> the same with K * B rows, in K blocks,
# the first of which holds the rows as they were. Each row is mapped by itself.
AugmentFn = Callable[[Obs | None, Array | None], tuple[Obs | None, Array | None]]


class LossFn(Protocol):
    """The loss of one minibatch; `ppo_loss` is one. Swap it to change the algorithm."""

    def __call__(
        self, params: Params, network: ActorCritic, batch: Batch, hparams: Hyperparams
    ) -> tuple[Array, Metrics]:
        """Returns the scalar to minimise and what to report of it."""
        ...


@dataclass(frozen=True)
class EnvInfo:
    """The facts of N environments."""

    num_envs: int  # N
    action_space: ActionSpace  # what `step` takes per environment
    max_episode_length: int  # steps after which an episode is truncated
    step_dt: float  # duration of one step, in s


class Described(Protocol):
    """What states its facts once, as `info`; who inherits has them by name as well."""

    info: EnvInfo

    @property
    def num_envs(self) -> int:
        """N."""
        return self.info.num_envs

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes per environment."""
        return self.info.action_space

    @property
    def max_episode_length(self) -> int:
        """Steps after which an episode is truncated."""
        return self.info.max_episode_length

    @property
    def step_dt(self) -> float:
        """Duration of one step, in s."""
        return self.info.step_dt


class Env(Described, Protocol):
    """N environments that reset themselves; two pure functions and a few facts."""

    def reset(self, key: Key) -> tuple[Any, Obs]:
        """Starts every environment anew."""
        ...

    def step(self, env_state: Any, action: Array) -> tuple[Any, TimeStep]:
        """Steps every environment; those that end start anew in the same step."""
        ...

    def randomize_episode_length(self, env_state: Any, key: Key) -> Any:
        """Draws how far each episode is, so that not all of them end together."""
        ...


@runtime_checkable
class Simulator(Env, Protocol):
    """An `Env` whose state lies outside of JAX: it cannot be saved and cannot go back.

    Its `env_state` orders the calls and says nothing of the world.
    """

    @property
    def is_traceable(self) -> bool:
        """Whether `reset` and `step` can run inside jit; else: `host_scan`."""
        ...

    def traceable(self) -> "Simulator":
        """Returns the same environments for tracing; what is traced need not run."""
        ...

    def jit(self, function: Callable[..., Any], **options: Any) -> Any:
        """Returns what `jax.jit` does, of a function that steps the simulator.

        It is compiled so that no step is doubled, and checked to be so.
        """
        ...

    def errors(self, num_calls: int | None = None) -> AbstractContextManager[None]:
        """Re-raises what the simulator raised inside a jitted program.

        Raises as well if the simulator was called otherwise than `num_calls` times.
        """
        ...

    def drain_log(self) -> dict[str, float]:
        """Returns {tag: mean} of what was logged since the last call."""
        ...

    def save_config(self, path: Path) -> None:
        """Writes the simulator's configuration as YAML."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns what of the simulator a resumed run puts back, as plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned, from the next `reset` on."""
        ...

    def close(self) -> None:
        """Ends the simulator."""
        ...
