from django.db import migrations

WHERE_BUILT_IN = """
DO $$ BEGIN
    ALTER TABLE {table} ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END $$
"""


class Migration(migrations.Migration):
    """lz4 loads bodies two to three times faster than pglz, which stays where PostgreSQL was built without it."""

    dependencies = [("batches", "0001_initial")]
    operations = [
        migrations.RunSQL(
            WHERE_BUILT_IN.format(table=table),
            f"ALTER TABLE {table} ALTER COLUMN body SET COMPRESSION default",
        )
        for table in ("batches_request", "batches_result")
    ]
