"""Text around the model: chat templates, tokenizers and vocabularies. It knows nothing of backends or of the loop."""
