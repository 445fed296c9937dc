"""How fast phiplug's parts are beside bare loops and other programs: `pytest bench/`. No test depends on a result."""
