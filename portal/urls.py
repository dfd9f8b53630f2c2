"""All routes: pages by noun, the API below /api/v1/."""

from django.urls import path

urlpatterns: list = []
