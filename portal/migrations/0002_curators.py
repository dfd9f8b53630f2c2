"""The group of curators, so that an administrator need only put people into it."""

from django.db import migrations


def make_group(apps, schema_editor):  # noqa: ARG001
    apps.get_model("auth", "Group").objects.get_or_create(name="curators")


class Migration(migrations.Migration):
    dependencies = [("portal", "0001_tokens"), ("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(make_group, migrations.RunPython.noop)]
