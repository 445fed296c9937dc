"""What clients of OpenAI and Anthropic write and read: fields, checks, bodies of answers and of errors. No HTTP."""
