"""How models call tools: the forms as data, what reads calls as they come, and the grammar that they keep."""
