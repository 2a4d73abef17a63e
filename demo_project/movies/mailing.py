"""The site's mail server, with a switch: ``manage.py mail_server break`` and ``repair``."""

from __future__ import annotations

from smtplib import SMTPServerDisconnected
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.module_loading import import_string

from .models import Outage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.core.mail import EmailMessage

SERVICE = "mail"


class MailServer(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        if Outage.objects.filter(service=SERVICE).exists():
            raise SMTPServerDisconnected("Connection unexpectedly closed")
        return _delivering().send_messages(email_messages)


def _delivering() -> BaseEmailBackend:
    if django.VERSION >= (6, 1):
        return mail.mailers["delivering"]
    return import_string(settings.DELIVERING_BACKEND)()
