"""Record which keys of a setting upstream's code reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

_THROUGH = "vllm.config.kv_transfer"  # get_from_extra_config asks for its caller


class Recorded(dict[str, Any]):
    """A dictionary that records each key that vllm-ascend or a connector reads, nested ones too.

    Other modules do not count: vLLM hashes and prints the whole without acting on any key.
    """

    def __init__(self, value: Mapping[str, Any]) -> None:
        super().__init__(
            (key, Recorded(one) if isinstance(one, dict) else one) for key, one in value.items()
        )
        self.asked: set[str] = set()

    def _note(self, *keys: Any) -> None:
        asks = sys._getframe(2)
        if asks.f_globals.get("__name__") == _THROUGH and asks.f_back is not None:
            asks = asks.f_back
        module = asks.f_globals.get("__name__", "")
        if module.split(".")[0] == "vllm_ascend" or ".kv_connector." in module:
            self.asked.update(keys)

    def __getitem__(self, key: str) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._note(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        self._note(key)
        return super().pop(key, *default)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._note(*super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self._note(*super().keys())
        return super().keys()

    def items(self) -> Any:
        self._note(*super().keys())
        return super().items()

    def unread(self, path: str = "") -> Iterator[str]:
        """The keys that nothing asked for, as `outer.inner`."""
        for key, value in dict.items(self):
            where = f"{path}.{key}" if path else key
            if key not in self.asked:
                yield where
            elif isinstance(value, Recorded):
                yield from value.unread(where)
