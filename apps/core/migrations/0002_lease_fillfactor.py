from django.db import migrations


class Migration(migrations.Migration):
    """Room on each page, so that heartbeats stay heap-only updates."""

    dependencies = [("core", "0001_initial")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE core_lease SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01)",
            "ALTER TABLE core_lease RESET (fillfactor, autovacuum_vacuum_scale_factor)",
        )
    ]
