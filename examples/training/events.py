"""How a working process tells its parent what happens: one JSON object a line."""

from __future__ import annotations

import json
from typing import Any


def tell(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)
