"""What the decorators of a route say of it: data attached to the view, one source for all who read it."""

from collections.abc import Callable
from typing import Any, TypeVar

View = Callable[..., Any]
ViewT = TypeVar("ViewT", bound=View)
Bearer = TypeVar("Bearer")
Policy = TypeVar("Policy")

_ATTRIBUTE = "__route_policies__"


def attach(bearer: Bearer, policy: object, *, replace: bool = False) -> Bearer:
    """Attach `policy` to a view, a blueprint or the app: at most one of its type, unless it replaces the earlier.

    functools.wraps carries a view's policies outwards.
    """
    policies: dict[type, object] = getattr(bearer, _ATTRIBUTE, {})
    if type(policy) in policies and not replace:
        raise TypeError(f"{bearer!r} has two policies of type {type(policy).__name__}")
    setattr(bearer, _ATTRIBUTE, {**policies, type(policy): policy})
    return bearer


def policy_of(bearer: object, kind: type[Policy]) -> Policy | None:
    """The bearer's policy of this type, or None."""
    policy = getattr(bearer, _ATTRIBUTE, {}).get(kind)
    return policy if isinstance(policy, kind) else None
