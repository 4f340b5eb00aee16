from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("training", "0004_unproven_deployments"),
    ]

    operations = [
        migrations.AlterField(
            model_name="trainingjob",
            name="method",
            field=models.CharField(
                choices=[
                    ("sft", "Supervised: answers to learn"),
                    ("dpo", "Preferences: better and worse answers"),
                    ("kto", "Thumbs: good answers and bad ones"),
                ],
                default="sft",
                max_length=4,
            ),
        ),
    ]
