"""Functions of torch that are replaced while a thread measures."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Replacement:
    """Attributes of a module or class that act otherwise in the threads that ask for it, as long as they do.

    Several threads may measure at once, in any order. If each put back what it had found, the last to end would leave
    the replacement of another in place for good.
    """

    def __init__(self, owner: Any, **functions: Callable[..., Any]) -> None:
        self._owner, self._functions = owner, functions
        self._lock, self._users = threading.Lock(), Counter[int]()
        self._originals: dict[str, Callable[..., Any]] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """The functions replaced in this thread; contexts may be nested."""
        thread = threading.get_ident()
        with self._lock:
            if not self._users:
                self._originals = {name: getattr(self._owner, name) for name in self._functions}
                for name, function in self._functions.items():
                    setattr(self._owner, name, self._in_users(function, self._originals[name]))
            self._users[thread] += 1
        try:
            yield
        finally:
            with self._lock:
                self._users[thread] -= 1
                if not self._users[thread]:
                    del self._users[thread]
                if not self._users:
                    for name, original in self._originals.items():
                        setattr(self._owner, name, original)

    def _in_users(self, function: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
        def chosen(*args: Any, **kwargs: Any) -> Any:
            return (function if threading.get_ident() in self._users else original)(*args, **kwargs)

        return chosen
