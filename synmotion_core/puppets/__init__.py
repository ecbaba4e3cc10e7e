"""The world that ships: drawn puppets doing named motions, the tiny backbone trained on them, and its judge."""
