"""Where this user's own files are, by the custom of the system; none for a user without a home folder."""

from __future__ import annotations

from pathlib import Path


def log_file() -> Path | None:
    """Return where answers are logged."""
    import platformdirs

    try:
        return platformdirs.user_state_path("phiplug") / "log.db"
    except RuntimeError:
        return None


def config_file() -> Path | None:
    """Return where defaults and own aliases are."""
    import platformdirs

    try:
        return platformdirs.user_config_path("phiplug") / "config.toml"
    except RuntimeError:
        return None
