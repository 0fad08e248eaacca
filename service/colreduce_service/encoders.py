"""Models that encode on the server: each is loaded once and shared by every index it fits."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from colreduce.embed import Encoder, load_encoder
from colreduce.errors import BadInput, MissingDependency, ModelMismatch
from colreduce.index import Index

NO_ENCODER = "none"

# One text is encoded at a time: tokenizers are not made for several threads at once, and a model
# uses all the cores that it may use already.
ENCODING = threading.Lock()


class Encoders:
    """Models loaded once and lent to every index that was built with them."""

    def __init__(self, given: Sequence[str] = (), device: str = "auto") -> None:
        """``given`` are models for all indexes, or ``none``; with nothing each brings its own."""
        self._given = tuple(given)
        self._device = device
        self._loaded: dict[str, Encoder] = {}
        self._guard = threading.Lock()

    @property
    def none(self) -> bool:
        """Say whether this server was told to encode nothing."""
        return self._given == (NO_ENCODER,)

    def all(self) -> list[Encoder]:
        """Return the models that are loaded."""
        return list(self._loaded.values())

    def find(self, name: str) -> Encoder:
        """Return a loaded model by its name or its digest."""
        for encoder in self.all():
            if name in (encoder.identity.get("name"), encoder.identity.get("sha256")):
                return encoder
        known = ", ".join(str(one.identity.get("name")) for one in self.all()) or "none"
        raise BadInput(
            f"the server has loaded no encoder {name!r}; loaded: {known}", field="encoder"
        )

    def load(self) -> None:
        """Load the models that were given, so that a wrong name is known at once."""
        if NO_ENCODER in self._given and not self.none:
            raise BadInput("--encoder none stands alone: give models, or none", field="encoder")
        for name in () if self.none else self._given:
            self._keep(load_encoder(name, device=self._device))

    def lend(self, index: Index) -> None:
        """Give an index the model it was built with, loading it if need be, or raise why not."""
        if self.none:
            raise BadInput("this server encodes no text: give vectors instead", field="query.text")
        wanted = index.describe()["encoder"]
        with self._guard:
            if self._given:
                index.use_encoder(self._fitting(index, wanted))
            elif wanted is None:
                raise BadInput(
                    "this collection was built from vectors, so it cannot encode text: "
                    "give vectors instead",
                    field="query.text",
                )
            elif wanted["sha256"] in self._loaded:
                index.use_encoder(self._loaded[wanted["sha256"]])
            else:
                self._keep(_own_encoder(index))

    def _keep(self, encoder: Encoder) -> None:
        encoder.queries(["The first text takes longer than others. This is the first text."])
        self._loaded[str(encoder.identity["sha256"])] = encoder

    def _fitting(self, index: Index, wanted: Mapping[str, Any] | None) -> Encoder:
        """Return the given model that an index was built with; the first one when none was."""
        first = self.all()[0]
        if wanted is not None:
            return self._loaded.get(str(wanted["sha256"]), first)  # `use_encoder` says what differs
        if first.dim != index.dim:
            raise ModelMismatch(
                f"the index holds vectors for {index.dim}-wide queries, and {first.describe()} "
                f"makes {first.dim}-wide ones"
            )
        return first


def _own_encoder(index: Index) -> Encoder:
    try:
        return index.encoder
    except BadInput as error:  # the server's setting is at fault, and not the caller's input
        raise MissingDependency(
            f"this server cannot load the encoder of this collection, so give vectors: {error}"
        ) from error
