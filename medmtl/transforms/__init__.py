"""Volume <-> network grid. Every spatial step knows its inverse. Knows only `core`."""
