//! One tensor's bytes, as a file has them.

use candle_core::quantized::GgmlDType;
use half::{bf16, f16};

/// The raw bytes of one tensor, as they lie in the file.
#[derive(Clone, Copy, Debug)]
pub struct TensorBytes<'a> {
    /// Element type.
    pub dtype: GgmlDType,
    /// Rows (outputs) and columns (the reduced axis); a vector has one row.
    pub rows: usize,
    /// Elements of one row.
    pub columns: usize,
    /// The data, row after row.
    pub bytes: &'a [u8],
    /// Where rows are heads of so many dimensions, and those that turn together are half a head apart: rows are handed
    /// out with these side by side. 0 where they are to stay as they are.
    pub pairs: usize,
}

impl<'a> TensorBytes<'a> {
    /// The same with rows in pairs.
    #[must_use]
    pub(crate) fn with_pairs(self, pairs: usize) -> Self {
        Self { pairs, ..self }
    }

    /// Which row of the file is row `row` where heads of `pairs` dimensions are put in pairs.
    #[must_use]
    pub(crate) fn source_row(row: usize, pairs: usize) -> usize {
        if pairs == 0 {
            return row;
        }
        let (head, dimension) = (row / pairs, row % pairs);
        head * pairs + dimension % 2 * (pairs / 2) + dimension / 2
    }

    /// The bytes of one row.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [u8] {
        let length = self.bytes.len() / self.rows;
        &self.bytes[Self::source_row(row, self.pairs) * length..][..length]
    }

    /// Whether its elements are floating-point numbers.
    #[must_use]
    pub(crate) fn is_float(&self) -> bool {
        matches!(
            self.dtype,
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16
        )
    }

    /// Every element as f32, where they are floating-point numbers.
    #[must_use]
    pub fn floats(&self) -> Option<Vec<f32>> {
        let mut out = Vec::with_capacity(self.rows * self.columns);
        widen(self.dtype, self.bytes, &mut out)?;
        Some(out)
    }
}

/// Appends floating-point numbers of a type as f32, which loses nothing. `None` where they are of another type.
pub(crate) fn widen(dtype: GgmlDType, bytes: &[u8], out: &mut Vec<f32>) -> Option<()> {
    let pair = |bytes: &[u8]| [bytes[0], bytes[1]];
    match dtype {
        GgmlDType::F32 => out.extend(
            bytes
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        ),
        GgmlDType::F16 => out.extend(
            bytes
                .chunks_exact(2)
                .map(|bytes| f16::from_le_bytes(pair(bytes)).to_f32()),
        ),
        GgmlDType::BF16 => out.extend(
            bytes
                .chunks_exact(2)
                .map(|bytes| bf16::from_le_bytes(pair(bytes)).to_f32()),
        ),
        _ => return None,
    }
    Some(())
}
