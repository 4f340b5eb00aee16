"""Where training announces itself to the layers below, which know it only by these names."""


def register() -> None:
    """Each part of the app adds its own."""
