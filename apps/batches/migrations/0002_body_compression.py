from django.db import migrations


class Migration(migrations.Migration):
    """lz4 loads bodies two to three times faster than the default pglz."""

    dependencies = [("batches", "0001_initial")]
    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} ALTER COLUMN body SET COMPRESSION lz4",
            f"ALTER TABLE {table} ALTER COLUMN body SET COMPRESSION default",
        )
        for table in ("batches_request", "batches_result")
    ]
