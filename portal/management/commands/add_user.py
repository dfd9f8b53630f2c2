"""`add_user NAME`: an account whose password is asked for, or read from standard input."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.models import CURATORS, ApiToken, Scope


class Command(BaseCommand):
    help = "Add an account; the password is asked for, or read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--curator", action="store_true", help="a member of the curators")
        parser.add_argument("--staff", action="store_true", help="sees and steers everything")
        parser.add_argument("--token", action="store_true", help="print a token with every scope")

    def handle(self, *_: Any, **options: Any) -> None:
        name, users = options["name"], get_user_model().objects
        if users.filter(username=name).exists():
            raise CommandError(f"user {name!r}: there is one already")
        password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        try:
            validate_password(password)
        except ValidationError as error:
            raise CommandError("password: " + " ".join(error.messages)) from error
        user = users.create_user(username=name, password=password, is_staff=options["staff"])
        if options["curator"]:
            user.groups.add(Group.objects.get_or_create(name=CURATORS)[0])
        self.stdout.write(f"added {name}")
        if options["token"]:
            scopes = [Scope.READ, Scope.RUN, *([Scope.CURATE] if options["curator"] else [])]
            issued = ApiToken.objects.issue(user, "made with the account", [*scopes])
            self.stdout.write(issued[1])
