"""What every method of every stage is: a frozen dataclass whose fields are its parameters.

A method holds parameters and nothing else. What it learns from a corpus is a `State`, a plain
mapping of names to tensors that its ``fit`` returns and its other functions are handed back; the
index stores it beside the vectors. So a method can be printed, compared, searched over and
written into a recipe, and its fitted state is one safetensors file whatever the method.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, get_args, get_type_hints

from colreduce.choose import hint
from colreduce.errors import BadParameter

if TYPE_CHECKING:
    from torch import Tensor

State: TypeAlias = "Mapping[str, Tensor]"


def parameter(
    default: Any,
    says: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] | None = None,
    words: tuple[str, ...] = (),
    shown: bool = False,
) -> Any:
    """Declare a parameter: its default, what it means, and the values it may take.

    ``low`` and ``high`` are inclusive, ``above`` is exclusive. ``words`` may stand in place of a
    number. One that is ``shown`` is written into a recipe line even when it has its default.
    """
    rules = {"says": says, "low": low, "high": high, "above": above, "choices": choices}
    rules |= {"words": words, "shown": shown}
    return dataclasses.field(default=default, metadata=rules)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One row of a stage's table. The docstring's first paragraph says what it does."""

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""  # where it comes from
    when: ClassVar[str] = ""  # when to use it
    needs: ClassVar[tuple[str, ...]] = ()  # token metadata it cannot do without
    on_device: ClassVar[bool] = False  # whether it takes vectors that lie on a CUDA device

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _checked(self.name, field, hints[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    @classmethod
    def build(cls, parameters: Mapping[str, Any]) -> Any:
        """Make the method from a mapping; a misspelt parameter is answered with a suggestion."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in parameters:
            if name not in known:
                raise BadParameter(f"{cls.name} has no parameter {name!r}.{hint(name, known)}")
        return cls(**parameters)

    def parameters(self) -> dict[str, Any]:
        """Return every parameter with its value, defaults included."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def changed(self) -> dict[str, Any]:
        """Return the parameters that a recipe line names: those not at their defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata.get("shown") or getattr(self, field.name) != field.default
        }

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={_literal(value)}" for key, value in self.changed().items())
        return f"{self.name}({inside})" if inside else self.name


def _checked(method: str, field: dataclasses.Field[Any], hinted: Any, value: Any) -> Any:
    """Return ``value`` in the parameter's own type, or say why it cannot be used."""
    wanted = [kind for kind in (get_args(hinted) or (hinted,)) if kind is not type(None)]
    where = f"{method}({field.name}={value!r})"
    if value is None and len(wanted) < len(get_args(hinted) or (hinted,)):
        return None
    if float in wanted and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if int in wanted and float not in wanted and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not any(type(value) is kind for kind in wanted):
        names = " or ".join(kind.__name__ for kind in wanted)
        raise BadParameter(f"{where}: wanted {names}, got {type(value).__name__}")
    rules = field.metadata
    if rules.get("words") and isinstance(value, str):
        if value in rules["words"]:
            return value
        raise BadParameter(f"{where}: wanted a number or {' or '.join(rules['words'])}")
    if rules.get("choices") and value not in rules["choices"]:
        raise BadParameter(f"{where}:{hint(str(value), map(str, rules['choices']))}")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadParameter(f"{where}: wanted a finite number")
    low, high, above = rules.get("low"), rules.get("high"), rules.get("above")
    if low is not None and value < low:
        raise BadParameter(f"{where}: wanted at least {low:g}")
    if high is not None and value > high:
        raise BadParameter(f"{where}: wanted at most {high:g}")
    if above is not None and value <= above:
        raise BadParameter(f"{where}: wanted more than {above:g}")
    return value


def _literal(value: Any) -> str:
    """Write a parameter the way a recipe line reads it."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)
