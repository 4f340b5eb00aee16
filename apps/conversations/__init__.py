"""What a row of data can be: a conversation, its answers and its tools, and the formats that hold one. Django-free."""
