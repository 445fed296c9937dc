"""What a plugin gives is held to the contract: each wrong value is a typed error that names the plugin."""

from __future__ import annotations

from dataclasses import replace

import pytest

import phiplug_toy
from phiplug.errors import ContractMismatch
from phiplug.load import assemble
from phiplug.plugins import Plugins
from phiplug.spi import LoadOptions, ModelInfo

TOY = phiplug_toy.phiplug_register_backends()[0]
FILES = phiplug_toy.phiplug_find_model("toy")


def loaded(change):
    """Assemble the toy with a `load` that hands its model to `change` first."""

    def load(files, options):
        model = TOY.load(files, options)
        change(model)
        return model

    return assemble(FILES, replace(TOY, load=load), LoadOptions(), Plugins.installed())


def with_info(**changes):
    def change(model):
        model.info = replace(model.info, **changes)

    return change


def test_a_feature_that_the_contract_does_not_know_is_refused_by_name():
    with pytest.raises(ContractMismatch, match=r"backend toy names the feature 'teleport'; the contract knows copy, "):
        loaded(with_info(features=frozenset({"copy", "teleport"})))


@pytest.mark.parametrize(("feature", "method"), [("autotune", "autotune"), ("meter", "peak_memory")])
def test_a_feature_without_its_method_is_refused(feature, method):
    with pytest.raises(ContractMismatch, match=f"names the feature '{feature}', and its model has no method {method}"):
        loaded(with_info(features=frozenset({feature})))


def test_features_are_a_frozenset():
    with pytest.raises(ContractMismatch, match="is no frozenset"):
        loaded(with_info(features=["copy"]))


def test_a_model_info_of_another_version_names_the_backend_and_the_versions():
    def load(files, options):
        return ModelInfo(258, 512, 1, "cpu", "none", "1", can_copy=True)

    with pytest.raises(ContractMismatch, match=r"backend toy was written for version 1 .* accepts version 2") as caught:
        assemble(FILES, replace(TOY, load=load), LoadOptions(), Plugins.installed())
    assert "docs/plugins.md" in caught.value.hint
