//! How fast candle's stock `quantized_llama` is on a GGUF file: tokens a second of one prompt, and of decoding after it.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run -p kakeya-gates --example candle_speed -- MODEL.gguf [PROMPT] [DECODED]
//! ```

use std::error::Error;
use std::fs::File;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, IndexOp, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which GGUF file?")?;
    let prompt: u32 = arguments.next().map_or(Ok(512), |n| n.parse())?;
    let decoded: usize = arguments.next().map_or(Ok(64), |n| n.parse())?;

    let mut file = File::open(path)?;
    let content = Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let tokens: Vec<u32> = (0..prompt).map(|i| 1000 + i * 7919 % 40_000).collect();

    let started = Instant::now();
    let mut logits = model.forward(&Tensor::new(&tokens[..], &Device::Cpu)?.unsqueeze(0)?, 0)?;
    let prefill = f64::from(prompt) / started.elapsed().as_secs_f64();

    let started = Instant::now();
    for position in tokens.len()..tokens.len() + decoded {
        let token = logits.i(0)?.argmax(0)?.to_scalar::<u32>()?;
        let input = Tensor::new(&[token], &Device::Cpu)?.unsqueeze(0)?;
        logits = model.forward(&input, position)?;
    }
    let decode = decoded as f64 / started.elapsed().as_secs_f64();
    println!(
        "{{\"prefill_tokens_per_second\":{prefill:.1},\"decode_tokens_per_second\":{decode:.1}}}"
    );
    Ok(())
}
