//! Quantising floating-point weights while they are loaded, with candle's quantisers, which are those of GGUF.

use std::fmt;
use std::str::FromStr;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use crate::panels::{PANEL, PackError};
use crate::source::{TensorBytes, widen};

/// What floating-point matrices are quantised to. The embedding and the output are always quantised to Q8_0, and what is
/// quantised in the file is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// 8 bits and a scale for 32 weights.
    Q8_0,
    /// 4 bits, a scale and a minimum for 32 weights.
    Q4_1,
    /// 4 bits, with scales of their own quantised, for 256 weights; Q8_0 where a row is no multiple of 256 long.
    Q4K,
}

impl Quantization {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Q8_0, Self::Q4_1, Self::Q4K];

    /// What a tensor becomes; `None` where it stays what it is.
    pub(crate) fn of(self, tensor: &TensorBytes<'_>) -> Option<GgmlDType> {
        if !tensor.is_float() {
            return None;
        }
        Some(match self {
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q4K if tensor.columns.is_multiple_of(GgmlDType::Q4K.block_size()) => {
                GgmlDType::Q4K
            }
            Self::Q8_0 | Self::Q4K => GgmlDType::Q8_0,
        })
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_1 => "q4_1",
            Self::Q4K => "q4_k",
        })
    }
}

impl FromStr for Quantization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL
            .into_iter()
            .find(|known| known.to_string() == text);
        known.ok_or_else(|| format!("`{text}` is not a quantisation; known: q8_0, q4_1, q4_k"))
    }
}

/// Quantises the rows of one panel. Gives how many there are, and their bytes.
pub(crate) fn panel(
    tensor: &TensorBytes<'_>,
    panel: usize,
    to: GgmlDType,
) -> Result<(usize, Vec<u8>), PackError> {
    let first = panel * PANEL;
    let count = (tensor.rows - first).min(PANEL);
    let mut values = Vec::with_capacity(count * tensor.columns);
    for row in first..first + count {
        let before = values.len();
        widen(tensor.dtype, tensor.row(row), &mut values).ok_or(PackError::Type(tensor.dtype))?;
        // A quantiser makes finite weights of what is not.
        if let Some(column) = values[before..].iter().position(|value| !value.is_finite()) {
            return Err(PackError::NotFinite { row, column });
        }
    }
    let quantised = Tensor::from_vec(values, (count, tensor.columns), &Device::Cpu)
        .and_then(|tensor| QTensor::quantize(&tensor, to))
        .and_then(|quantised| Ok(quantised.data()?.into_owned()));
    match quantised {
        Ok(bytes) => Ok((count, bytes)),
        Err(error) => Err(PackError::Quantize {
            reason: error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_shown() {
        for known in Quantization::ALL {
            assert_eq!(known.to_string().parse(), Ok(known));
        }
        let error = "q5".parse::<Quantization>().unwrap_err();
        assert_eq!(error, "`q5` is not a quantisation; known: q8_0, q4_1, q4_k");
    }
}
