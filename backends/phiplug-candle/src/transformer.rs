//! The decoder of the Llama, Phi-3, Qwen2 and Qwen3 families: packed tokens of several sequences -> rows of logits.
//!
//! All matrices are in the order of the papers, in which the halves of a head are rotated against each other: the
//! Python side has brought them there. The tokens of all sequences go through a matrix together, and those of each
//! sequence through the attention alone. This file knows nothing of Python and of files.

use std::sync::{Arc, atomic::AtomicBool};

use candle_core::{Device, Result, Tensor, quantized::{QMatMul, QTensor}};
use candle_nn::{ops, rotary_emb::rope_thd};

use crate::{attention::attend, cache::Cache, threads::check, weights::{Matrix, Weights}};

/// The numbers of a model that no tensor tells.
#[derive(Clone, Debug, pyo3::FromPyObject)]
pub struct Sizes {
    pub layers: usize,
    pub heads: usize,
    pub groups: usize,
    pub head: usize,
    pub feed_forward: usize,
    pub epsilon: f32,
}

/// Tokens to append to a slot, and how many of their last rows are wanted.
pub struct Step {
    pub slot: usize,
    pub tokens: Vec<u32>,
    pub rows: usize,
}

struct Layer {
    attention_norm: Tensor,
    query_key_value: Matrix,
    /// Qwen2's.
    biases: Option<Tensor>,
    /// Qwen3's, for each head of the queries and of the keys.
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    output: Matrix,
    feed_forward_norm: Tensor,
    gate_up: Matrix,
    down: Matrix,
}

pub struct Transformer {
    pub sizes: Sizes,
    embedding: Arc<QTensor>,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Matrix,
    /// cos and sin of every position, (context, rotated / 2).
    rotation: (Tensor, Tensor),
    pub device: Device,
}

impl Layer {
    fn take(weights: &Weights, number: usize) -> Result<Self> {
        let name = |part: &str| format!("blk.{number}.{part}");
        Ok(Self {
            attention_norm: weights.plain(&name("attn_norm"))?,
            query_key_value: weights.matrix(&name("attn_qkv"))?,
            biases: weights.plain_if_there(&name("attn_qkv.bias"))?,
            query_norm: weights.plain_if_there(&name("attn_q_norm"))?,
            key_norm: weights.plain_if_there(&name("attn_k_norm"))?,
            output: weights.matrix(&name("attn_output"))?,
            feed_forward_norm: weights.plain(&name("ffn_norm"))?,
            gate_up: weights.matrix(&name("ffn_gate_up"))?,
            down: weights.matrix(&name("ffn_down"))?,
        })
    }
}

impl Transformer {
    /// Take everything out of `weights`. Without a tensor "output", the embeddings are the output matrix, too.
    pub fn take(weights: &Weights, sizes: Sizes, rotation: (Tensor, Tensor)) -> Result<Self> {
        let embedding = Arc::new(weights.one("token_embd")?);
        let output = match weights.take("output") {
            Some(_) if embedding.shape().rank() != 2 => candle_core::bail!("the embeddings are no matrix"),
            Some(own) => Matrix { parts: own.into_iter().map(QMatMul::from_qtensor).collect::<Result<_>>()? },
            None => Matrix { parts: vec![QMatMul::from_arc(embedding.clone())?] },
        };
        let layers = (0..sizes.layers).map(|number| Layer::take(weights, number)).collect::<Result<_>>()?;
        let norm = weights.plain("output_norm")?;
        Ok(Self { sizes, embedding, layers, norm, output, rotation, device: weights.device.clone() })
    }

    pub fn vocabulary(&self) -> usize {
        self.embedding.shape().dims()[0]
    }

    /// Append each step's tokens to its cache, and return the logits of the last `rows` of each, one after the other.
    /// `stop` is looked at between layers and between the matrices of a layer. If anything fails, the caches keep their
    /// lengths.
    pub fn forward(&self, steps: &[Step], caches: &mut [Cache], stop: &AtomicBool) -> Result<Vec<f32>> {
        let tokens: Vec<u32> = steps.iter().flat_map(|step| step.tokens.iter().copied()).collect();
        let mut x = self.embedding.embedding(&Tensor::new(tokens, &self.device)?)?;
        let turn = self.turn(steps, caches)?;
        for (number, layer) in self.layers.iter().enumerate() {
            check(stop)?;
            let mixed = self.attention(layer, &x, &turn, |q, k, v| self.attend(q, k, v, number, steps, caches))?;
            check(stop)?;
            x = (x + layer.output.forward(&mixed)?)?;
            check(stop)?;
            x = self.feed_forward(layer, &x, stop)?;
        }
        let logits = self.logits(&x, steps)?;
        check(stop)?;
        for step in steps {
            caches[step.slot].length += step.tokens.len();
        }
        Ok(logits)
    }

    /// The cosines and sines of each token's position, (T, rotated / 2).
    fn turn(&self, steps: &[Step], caches: &[Cache]) -> Result<(Tensor, Tensor)> {
        let positions = steps.iter().flat_map(|step| {
            let start = caches[step.slot].length as u32;
            start..start + step.tokens.len() as u32
        });
        let positions = Tensor::new(positions.collect::<Vec<_>>(), &self.device)?;
        Ok((self.rotation.0.index_select(&positions, 0)?, self.rotation.1.index_select(&positions, 0)?))
    }

    fn attention(
        &self, layer: &Layer, x: &Tensor, turn: &(Tensor, Tensor),
        attend: impl FnOnce(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let Sizes { heads, groups, head, epsilon, .. } = self.sizes;
        let h = ops::rms_norm(x, &layer.attention_norm, epsilon)?;
        let mut y = layer.query_key_value.forward(&h)?;
        if let Some(biases) = &layer.biases {
            y = y.broadcast_add(biases)?;
        }
        let part = |start: usize, count: usize| {
            y.narrow(1, start * head, count * head)?.contiguous()?.reshape((1, x.dim(0)?, count, head))
        };
        let normed = |x: Tensor, norm: &Option<Tensor>| match norm {
            Some(norm) => ops::rms_norm(&x, norm, epsilon),
            None => Ok(x),
        };
        let queries = self.rotate(&normed(part(0, heads)?, &layer.query_norm)?, turn)?;
        let keys = self.rotate(&normed(part(heads, groups)?, &layer.key_norm)?, turn)?;
        attend(&queries, &keys, &part(heads + groups, groups)?)
    }

    /// Let the tokens of each step look into their own cache.
    fn attend(
        &self, queries: &Tensor, keys: &Tensor, values: &Tensor, layer: usize, steps: &[Step], caches: &[Cache],
    ) -> Result<Tensor> {
        let (mut mixed, mut start) = (Vec::with_capacity(steps.len()), 0);
        for step in steps {
            let own = |x: &Tensor| x.narrow(1, start, step.tokens.len())?.contiguous();
            let (k, v) = caches[step.slot].extend(layer, &own(keys)?, &own(values)?)?;
            mixed.push(attend(&own(queries)?, &k, &v)?);
            start += step.tokens.len();
        }
        if let [one] = mixed.as_slice() { Ok(one.clone()) } else { Tensor::cat(&mixed, 0) }
    }

    fn feed_forward(&self, layer: &Layer, x: &Tensor, stop: &AtomicBool) -> Result<Tensor> {
        let size = self.sizes.feed_forward;
        let y = layer.gate_up.forward(&ops::rms_norm(x, &layer.feed_forward_norm, self.sizes.epsilon)?)?;
        check(stop)?;
        let gated = (ops::silu(&y.narrow(1, 0, size)?.contiguous()?)? * y.narrow(1, size, size)?)?;
        x + layer.down.forward(&gated)?
    }

    fn rotate(&self, x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
        let (head, rotated) = (self.sizes.head, 2 * cos.dim(1)?);
        if rotated == head {
            return rope_thd(x, cos, sin);
        }
        let turned = rope_thd(&x.narrow(3, 0, rotated)?.contiguous()?, cos, sin)?;
        Tensor::cat(&[turned, x.narrow(3, rotated, head - rotated)?], 3)
    }

    fn logits(&self, x: &Tensor, steps: &[Step]) -> Result<Vec<f32>> {
        let (mut wanted, mut end) = (Vec::new(), 0);
        for step in steps {
            end += step.tokens.len();
            if step.rows > 0 {
                wanted.push(x.narrow(0, end - step.rows, step.rows)?);
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let rows = ops::rms_norm(&Tensor::cat(&wanted, 0)?.contiguous()?, &self.norm, self.sizes.epsilon)?;
        self.output.forward(&rows)?.flatten_all()?.to_vec1()
    }
}
