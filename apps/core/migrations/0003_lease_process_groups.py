from django.db import migrations, models


class Migration(migrations.Migration):
    """A slot's owner may have several engines, of which most sleep."""

    dependencies = [("core", "0002_lease_storage")]
    operations = [
        migrations.RenameField("lease", "process_group", "process_groups"),
        migrations.AlterField("lease", "process_groups", models.TextField(default="")),
    ]
