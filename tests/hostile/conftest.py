from __future__ import annotations

import pytest
import tenacity


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between retries."""
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda seconds: None)
