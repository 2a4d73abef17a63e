"""AppConfig instances, by their labels: the senders of ``pre_migrate`` and ``post_migrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig, apps

from .table import Unsendable, add_family, add_tag

if TYPE_CHECKING:
    from .table import Encoder


def _encode(config: AppConfig, encoder: Encoder) -> Any:
    if apps.app_configs.get(config.label) is not config:
        raise Unsendable(config, f"expected the app that is installed as {config.label!r}")
    return {"$": "app_config", "v": config.label}


add_family(lambda kind: issubclass(kind, AppConfig), _encode)
add_tag("app_config", apps.get_app_config)
