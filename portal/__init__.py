"""The Django project: settings, URLs, and all that a person or a client sees."""

from portal.celery import app as celery_app

__all__ = ["celery_app"]
