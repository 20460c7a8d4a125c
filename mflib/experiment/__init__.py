"""Live experiments: data, random networks, training many networks at once, and their storage."""
