class UidConverter:
    """Public ids in paths. What cannot be one (NUL characters, novels) never reaches the database."""

    regex = r"[A-Za-z0-9_.:-]{1,64}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value
