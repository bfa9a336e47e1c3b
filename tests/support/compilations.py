"""What JAX traces and compiles while a test looks."""

import jax


class Compilations:
    """Counts what JAX traces, compiles, and finds in the persistent cache."""

    def __init__(self):
        self.counts = {}

    def __enter__(self):
        jax.monitoring.register_event_duration_secs_listener(self._duration)
        jax.monitoring.register_event_listener(self._event)
        return self

    def __exit__(self, *error):
        jax.monitoring.unregister_event_duration_listener(self._duration)
        jax.monitoring.unregister_event_listener(self._event)

    def _event(self, name, **kwargs):
        self.counts[name] = self.counts.get(name, 0) + 1

    def _duration(self, name, seconds, **kwargs):
        self._event(f"{name} {kwargs.get('fun_name')}")

    def of(self, name):
        """Returns how often a function was traced, and its program compiled."""
        events = f"jaxpr_trace_duration {name}", f"backend_compile_duration jit({name})"
        return tuple(self.counts.get(f"/jax/core/compile/{x}", 0) for x in events)
