"""The world that ships: procedurally drawn puppets doing named motions, the tiny backbone trained on them, its judge."""
