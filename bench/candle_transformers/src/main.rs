//! Times candle-transformers' own models on one GGUF file, its only argument.
//!
//! Each line of standard input is `PROMPT_TOKENS NEW_TOKENS`, and is answered by a line of seconds per token: of the new
//! ones, or where there are none, of the prompt.

use std::{fs::File, io::{Write, stdin, stdout}, time::Instant};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor, quantized::gguf_file::Content};
use candle_transformers::models::{quantized_llama, quantized_phi3};

enum Model {
    Llama(quantized_llama::ModelWeights),
    Phi3(quantized_phi3::ModelWeights),
}

impl Model {
    fn load(path: &str) -> Result<Self> {
        let mut file = File::open(path)?;
        let content = Content::read(&mut file)?;
        let family = content.metadata.get("general.architecture").context("no architecture")?.to_string()?.clone();
        Ok(match family.as_str() {
            "llama" => Self::Llama(quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?),
            "phi3" => Self::Phi3(quantized_phi3::ModelWeights::from_gguf(false, content, &mut file, &Device::Cpu)?),
            _ => bail!("{family} is neither llama nor phi3"),
        })
    }

    /// The likeliest token after `ids`, of which the first is at `position`; 0 begins a new sequence.
    fn next(&mut self, ids: &[u32], position: usize) -> Result<u32> {
        let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let logits = match self {
            Self::Llama(model) => model.forward(&ids, position)?,
            Self::Phi3(model) => model.forward(&ids, position)?,
        };
        Ok(logits.squeeze(0)?.argmax(0)?.to_scalar()?)
    }

    fn seconds(&mut self, prompt: usize, new: usize) -> Result<f64> {
        let ids: Vec<u32> = (0..prompt as u32).map(|i| 300 + i * 37 % 20_000).collect();
        let start = Instant::now();
        let mut token = self.next(&ids, 0)?;
        if new == 0 {
            return Ok(start.elapsed().as_secs_f64() / prompt as f64);
        }
        let start = Instant::now();
        for position in prompt..prompt + new {
            token = self.next(&[token], position)?;
        }
        Ok(start.elapsed().as_secs_f64() / new as f64)
    }
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("name a GGUF file")?;
    let mut model = Model::load(&path)?;
    for line in stdin().lines() {
        let line = line?;
        let (prompt, new) = line.split_once(' ').context("two numbers a line: PROMPT_TOKENS NEW_TOKENS")?;
        println!("{}", model.seconds(prompt.parse()?, new.parse()?)?);
        stdout().flush()?;
    }
    Ok(())
}
