"""The parts from which `phiplug plugins new --for gguf` and `--for folder` write a distribution.

They are modules like any other, so that the project's own checks hold them to its types and its style; `scaffold`
copies them under the plugin's name. `plugin` becomes the package itself, `gguf` or `folder` its `loading`.
"""
