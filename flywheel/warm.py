"""What of a run is warm while it works: the engine of one generation or other model, and the verifier workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flywheel import samplers
from flywheel.errors import ModelError
from flywheel.fingerprint import derive_seed
from flywheel.recipe import Recipe
from flywheel.types import Generation
from flywheel.view import RunView

if TYPE_CHECKING:
    from flywheel.policy import Policy
    from flywheel.recipe import ModelSection, PolicySection
    from flywheel.verify import VerifierPool


class Warm(RunView):
    """A run's view with at most one engine, and one pool of workers, each started when it is first asked for."""

    def __init__(self, directory: Path, recipe: Recipe) -> None:
        super().__init__(directory, recipe)
        self._policy: Policy | None = None
        self._policy_of: str | None = None
        self._pool: VerifierPool | None = None

    def policy(self, generation: Generation, *, resumed: int = 0) -> Policy:
        """The engine that serves a generation; the one that is loaded if it does, else a new one.

        `resumed` is how many samples of the work at hand stand on disk already: an engine that is seeded
        as a whole must not draw the same numbers again for the rest. Raises ModelError where the engine
        has loaded other weights than the ones recorded.
        """
        if self._policy is not None and self._policy_of == generation.path:
            return self._policy
        policy = self._open(
            f"{generation.index:03d}",
            self.recipe.policy,
            self.recipe.model,
            self.model_path(generation),
            seed=derive_seed(self.recipe.seed, "engine", generation.index, resumed),
        )
        self._policy_of = generation.path  # mixtures of a round share its index
        loaded = getattr(policy, "digest", None)
        if loaded is not None and loaded != self.model_digest(generation):
            self.release_policy()
            raise ModelError(
                f"the engine loaded weights {loaded[:12]}… from {self.model_path(generation)}, but generation "
                f"{generation.index} was recorded as {self.model_digest(generation)[:12]}…; the files were changed"
            )
        return policy

    def extra_policy(self, number: int, *, resumed: int = 0) -> Policy:
        """The engine that serves the model of `sampling.extra[number]`; what is loaded instead makes room for it."""
        name, extra = f"extra-{number}", self.recipe.sampling.extra[number]
        if self._policy is not None and self._policy_of == name:
            return self._policy
        return self._open(
            name,
            samplers.policy_section(self.recipe, extra),
            samplers.model_section(self.recipe, extra),
            samplers.model_path(self.recipe, extra),
            seed=derive_seed(self.recipe.seed, "engine", name, resumed),
        )

    def _open(self, name: str, policy: PolicySection, model: ModelSection, path: Path, *, seed: int) -> Policy:
        from flywheel.policy.opening import open_policy

        self.release_policy()
        self._policy = open_policy(
            policy,
            model,
            path,
            seed=seed,
            max_model_len=policy.vllm.max_model_len,
            log=self.directory / "logs" / f"engine-{name}.log",
            pid_dir=self.directory / "pids",
        )
        self._policy_of = name
        return self._policy

    def release_policy(self) -> None:
        """End the engine, so that its memory comes back."""
        if self._policy is not None:
            self._policy.close()
            self._policy = self._policy_of = None

    def release_verifiers(self) -> None:
        """End the verifier workers, and with them the models that some bring."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @property
    def pool(self) -> VerifierPool:
        """The verifier workers, started when first used."""
        from flywheel.verify import VerifierPool

        if self._pool is None:
            self._pool = VerifierPool(self.recipe.verify)
        return self._pool
