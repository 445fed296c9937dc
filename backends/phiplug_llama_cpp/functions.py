"""The C functions of llama.h that this backend calls, declared once and bound when they are first called.

It knows no provider: any library that exports them will do. Structures that travel by value come from a `Layout`, which
`guard` has held to the library.
"""

from __future__ import annotations

import ctypes
from ctypes import c_bool, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_void_p
from typing import Any

from phiplug_llama_cpp.layouts import Layout

MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ in llama-cparams.h

LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
ProgressCallback = ctypes.CFUNCTYPE(c_bool, c_float, c_void_p)
AbortCallback = ctypes.CFUNCTYPE(c_bool, c_void_p)

_MODEL, _CONTEXT, _MEMORY, _VOCAB = (c_void_p,) * 4  # opaque to those who call
_SEQUENCE = _POSITION = c_int32

_DECLARATIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {  # Any: a type of ctypes, or the name of a structure
    "ggml_backend_dev_count": (c_size_t, ()),
    "ggml_backend_load_all": (None, ()),
    "ggml_backend_load_all_from_path": (None, (c_char_p,)),
    "llama_backend_init": (None, ()),
    "llama_context_default_params": ("llama_context_params", ()),
    "llama_decode": (c_int32, (_CONTEXT, "llama_batch")),
    "llama_free": (None, (_CONTEXT,)),
    "llama_get_logits_ith": (c_void_p, (_CONTEXT, c_int32)),  # an address: a pointer object would take 1 us to read
    "llama_get_memory": (c_void_p, (_CONTEXT,)),
    "llama_init_from_model": (c_void_p, (_MODEL, "llama_context_params")),
    "llama_log_set": (None, (LogCallback, c_void_p)),
    "llama_max_parallel_sequences": (c_size_t, ()),
    "llama_memory_seq_cp": (None, (_MEMORY, _SEQUENCE, _SEQUENCE, _POSITION, _POSITION)),
    "llama_memory_seq_pos_max": (_POSITION, (_MEMORY, _SEQUENCE)),
    "llama_memory_seq_pos_min": (_POSITION, (_MEMORY, _SEQUENCE)),
    "llama_memory_seq_rm": (c_bool, (_MEMORY, _SEQUENCE, _POSITION, _POSITION)),
    "llama_model_default_params": ("llama_model_params", ()),
    "llama_model_free": (None, (_MODEL,)),
    "llama_model_get_vocab": (c_void_p, (_MODEL,)),
    "llama_model_has_decoder": (c_bool, (_MODEL,)),
    "llama_model_has_encoder": (c_bool, (_MODEL,)),
    "llama_model_is_diffusion": (c_bool, (_MODEL,)),
    "llama_model_is_hybrid": (c_bool, (_MODEL,)),
    "llama_model_is_recurrent": (c_bool, (_MODEL,)),
    "llama_model_load_from_file": (c_void_p, (c_char_p, "llama_model_params")),
    "llama_model_n_ctx_train": (c_int32, (_MODEL,)),
    "llama_n_batch": (c_uint32, (_CONTEXT,)),
    "llama_n_ctx": (c_uint32, (_CONTEXT,)),
    "llama_n_seq_max": (c_uint32, (_CONTEXT,)),
    "llama_n_threads": (c_int32, (_CONTEXT,)),
    "llama_n_threads_batch": (c_int32, (_CONTEXT,)),
    "llama_n_ubatch": (c_uint32, (_CONTEXT,)),
    "llama_print_system_info": (c_char_p, ()),
    "llama_set_abort_callback": (None, (_CONTEXT, AbortCallback, c_void_p)),
    "llama_set_n_threads": (None, (_CONTEXT, c_int32, c_int32)),
    "llama_supports_gpu_offload": (c_bool, ()),
    "llama_version": (c_char_p, ()),
    "llama_vocab_n_tokens": (c_int32, (_VOCAB,)),
}

_ANSWERS = {  # of functions that not every build exports
    "ggml_backend_dev_count": lambda: 1,
    "llama_max_parallel_sequences": lambda: MAX_SEQUENCES,
    "llama_version": lambda: b"of unknown version",
}


class Functions:
    """The functions as attributes; each is looked up in the library when it is asked for first."""

    def __init__(self, library: ctypes.CDLL, layout: Layout) -> None:
        self._library = library
        self._layout = layout

    def __getattr__(self, name: str) -> Any:  # Any: a C function
        """Bind a function.

        Raises:
            AttributeError: it is not declared here, or the library has none of that name.
        """
        if name not in _DECLARATIONS:
            raise AttributeError(name)
        result, arguments = _DECLARATIONS[name]
        function: Any
        try:
            function = self._library[name]  # not as an attribute, which all tables of one library would share
        except AttributeError:
            if name not in _ANSWERS:
                raise
            function = _ANSWERS[name]
        else:
            function.restype = self._type(result)
            function.argtypes = [self._type(argument) for argument in arguments]
        setattr(self, name, function)
        return function

    def _type(self, declared: Any) -> Any:  # Any: a type of ctypes
        return self._layout.structure(declared) if isinstance(declared, str) else declared
