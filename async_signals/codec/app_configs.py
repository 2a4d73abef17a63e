"""AppConfig instances, by their labels: the senders of ``pre_migrate`` and ``post_migrate``."""

from __future__ import annotations

from django.apps import AppConfig, apps

from .values import Encoder, Unsendable, add


def _encode(config: AppConfig, encoder: Encoder) -> str:
    if apps.app_configs.get(config.label) is not config:
        raise Unsendable(config, f"expected the app that is installed as {config.label!r}")
    return config.label


def _decode(label: str) -> AppConfig:
    return apps.get_app_config(label)


add(AppConfig, "app_config", _encode, _decode, family=True)
