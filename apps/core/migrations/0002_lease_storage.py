from django.db import migrations


class Migration(migrations.Migration):
    """Room on each page, so that heartbeats stay heap-only updates; epochs that are never used twice."""

    dependencies = [("core", "0001_initial")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE core_lease SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01)",
            "ALTER TABLE core_lease RESET (fillfactor, autovacuum_vacuum_scale_factor)",
        ),
        migrations.RunSQL("CREATE SEQUENCE core_lease_epoch", "DROP SEQUENCE core_lease_epoch"),
    ]
