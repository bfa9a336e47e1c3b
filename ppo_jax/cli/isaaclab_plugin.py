"""Makes `isaaclab train --rl_library ppo_jax`, and play and export of it, work.

Isaac Lab imports this module, an entry point of its group `isaaclab.tasks`, before it
looks for a library. Its table of libraries is private: where it is not there, Isaac Lab
goes on without us, and `train.py` works as before.
"""

from isaaclab_rl.entrypoints import dispatch

for action, libraries in getattr(dispatch, "_BACKEND_MODULES", {}).items():
    if action in ("train", "play", "export"):
        libraries["ppo_jax"] = f"ppo_jax.cli.{action}"
