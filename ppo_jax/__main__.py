"""`python -m ppo_jax train`."""

from ppo_jax.cli.main import main

if __name__ == "__main__":
    main()
