"""Text to ids within a Keras model or a tf.data pipeline."""

from __future__ import annotations

import keras
import numpy as np

from gpt2_core.errors import GPT2Error
from gpt2_core.plain import is_int
from gpt2_core.tokenizer import GPT2Tokenizer, GPT2TokenizerFast
from gpt2_core.tokenizer.batch import filled


@keras.saving.register_keras_serializable(package="gpt2_tf")
class TFGPT2Tokenizer(keras.layers.Layer):
    """A layer from texts, a string tensor (B,), to `input_ids` and `attention_mask`, each int32 (B, T), 1 for tokens.

    Rows are cut to max_length where it is given, and filled up to it with pad_token_id; else up to the longest of the
    batch. The ids are GPT2TokenizerFast's, special tokens whole. It works eagerly, in tf.function, in `tf.data`'s map
    and in `fit`; TensorFlow calls back into Python for it, since its own string operations cannot split a text as
    GPT-2 does. So it is no part of a SavedModel, and XLA does not compile it.

    >>> layer = TFGPT2Tokenizer.from_pretrained("gpt2", pad_token_id=50256)
    >>> layer(["hello", "hello world"])["input_ids"].numpy()
    array([[31373, 50256],
           [31373,   995]], dtype=int32)
    """

    def __init__(
        self, tokenizer: GPT2Tokenizer, max_length: int | None = None, pad_token_id: int | None = None, **kwargs
    ):
        """pad_token_id: by default the tokenizer's pad_token's; one or the other must be there."""
        super().__init__(**kwargs)
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad_token_id = tokenizer.pad_token_id if pad_token_id is None else pad_token_id
        if self.pad_token_id is None:
            raise GPT2Error(
                "rows are filled up and need a pad_token_id: GPT-2 has none; its eos_token_id, 50256, will do"
            )
        if max_length is not None and (not is_int(max_length) or max_length < 1):
            raise GPT2Error(f"max_length={max_length!r}: it must be a whole number from 1")
        self.trainable = False

    @classmethod
    def from_tokenizer(cls, tokenizer: GPT2Tokenizer, **kwargs) -> TFGPT2Tokenizer:
        """Returns the layer of a tokenizer; kwargs: the layer's arguments."""
        return cls(tokenizer, **kwargs)

    @classmethod
    def from_pretrained(cls, folder, max_length: int | None = None, pad_token_id: int | None = None, **settings):
        """Returns the layer of a folder, a hub id or a published name; settings: the tokenizer's arguments."""
        return cls(GPT2TokenizerFast.from_pretrained(folder, **settings), max_length, pad_token_id)

    def __call__(self, x, *args, **kwargs):
        """As `call`; texts may also be a list of str or bytes, or an array of them."""
        if isinstance(x, list | tuple | np.ndarray):  # Keras takes these for many arguments
            import tensorflow as tf

            x = tf.constant(x, tf.string)
        return super().__call__(x, *args, **kwargs)

    def call(self, x, max_length: int | None = None):
        """Returns {"input_ids", "attention_mask"} of texts, (B,); max_length: as the layer's, for this call."""
        import tensorflow as tf

        length = self.max_length if max_length is None else max_length
        texts = tf.convert_to_tensor(x, tf.string)
        if texts.shape.rank not in (1, None):
            raise GPT2Error(f"texts must be a string tensor of shape (B,), got {tuple(texts.shape)}")
        ids, mask = tf.numpy_function(lambda given: self._rows(given, length), [texts], (tf.int32, tf.int32))
        for rows in (ids, mask):
            rows.set_shape((texts.shape[0] if texts.shape.rank else None, length))
        return {"input_ids": ids, "attention_mask": mask}

    def _rows(self, texts: np.ndarray, length: int | None) -> tuple[np.ndarray, np.ndarray]:
        tokenizer = self.tokenizer
        decoded = [text.decode("utf-8", tokenizer.errors) for text in texts.tolist()]
        rows = tokenizer(decoded, truncation=length is not None, max_length=length, verbose=False)["input_ids"]
        width = max(map(len, rows), default=0) if length is None else length
        ids, mask = filled([np.array(row) for row in rows], width, self.pad_token_id, tokenizer.padding_side == "left")
        return ids.astype(np.int32), mask.astype(np.int32)

    def get_config(self):
        """Returns what makes the layer again, its vocabulary included unless that is GPT-2's own."""
        own = {"tokenizer": self.tokenizer.to_dict(), "fast": self.tokenizer.is_fast}
        return {**super().get_config(), **own, "max_length": self.max_length, "pad_token_id": self.pad_token_id}

    @classmethod
    def from_config(cls, config) -> TFGPT2Tokenizer:
        """Returns the layer that `get_config` told of."""
        kind = GPT2TokenizerFast if config.pop("fast") else GPT2Tokenizer
        return cls(kind.from_dict(config.pop("tokenizer")), **config)
