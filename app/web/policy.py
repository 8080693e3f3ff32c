"""What the decorators of a route say of it: data attached to the view, one source for all who read it."""

from collections.abc import Callable
from typing import Any, TypeVar

View = Callable[..., Any]
ViewT = TypeVar("ViewT", bound=View)
Policy = TypeVar("Policy")

_ATTRIBUTE = "__route_policies__"


def attach(view: ViewT, policy: object) -> ViewT:
    """Attach `policy`, at most one of its type a view. functools.wraps carries it outwards."""
    policies: dict[type, object] = getattr(view, _ATTRIBUTE, {})
    if type(policy) in policies:
        raise TypeError(f"{view.__qualname__} has two policies of type {type(policy).__name__}")
    setattr(view, _ATTRIBUTE, {**policies, type(policy): policy})
    return view


def policy_of(view: View, kind: type[Policy]) -> Policy | None:
    """The view's policy of this type, or None."""
    policy = getattr(view, _ATTRIBUTE, {}).get(kind)
    return policy if isinstance(policy, kind) else None
