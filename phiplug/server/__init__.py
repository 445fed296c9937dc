"""HTTP in front of a model: the interfaces of OpenAI and Anthropic over the engine's loop. See docs/serving.md."""
