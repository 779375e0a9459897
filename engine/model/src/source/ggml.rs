//! The element types that GGUF files number, whether or not this build runs them.

use std::fmt;

use candle_core::quantized::GgmlDType;

/// A type by its number in GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GgmlType(pub(super) u32);

/// Number, name, elements of a block and its bytes, as ggml.h has them.
const KNOWN: [(u32, &str, u64, u64); 33] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
];

impl GgmlType {
    /// candle's name for it, where it has one.
    pub(super) fn dtype(self) -> Option<GgmlDType> {
        Some(match self.0 {
            0 => GgmlDType::F32,
            1 => GgmlDType::F16,
            2 => GgmlDType::Q4_0,
            3 => GgmlDType::Q4_1,
            6 => GgmlDType::Q5_0,
            7 => GgmlDType::Q5_1,
            8 => GgmlDType::Q8_0,
            9 => GgmlDType::Q8_1,
            10 => GgmlDType::Q2K,
            11 => GgmlDType::Q3K,
            12 => GgmlDType::Q4K,
            13 => GgmlDType::Q5K,
            14 => GgmlDType::Q6K,
            15 => GgmlDType::Q8K,
            30 => GgmlDType::BF16,
            _ => return None,
        })
    }

    /// Bytes of so many elements; `None` where they are no whole blocks, or the type is unknown.
    pub(super) fn bytes(self, elements: u64) -> Option<u64> {
        let (_, _, block, bytes) = self.known()?;
        match elements.is_multiple_of(block) {
            true => (elements / block).checked_mul(bytes),
            false => None,
        }
    }

    fn known(self) -> Option<(u32, &'static str, u64, u64)> {
        KNOWN.into_iter().find(|(number, ..)| *number == self.0)
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((_, name, _, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_library_where_it_has_the_type() {
        let mut compared = 0;
        for (number, name, block, bytes) in KNOWN {
            if let Some(dtype) = GgmlType(number).dtype() {
                assert_eq!(dtype.block_size() as u64, block, "{name}");
                // The library's Q8_K holds sums besides, as ggml's does; its size is that of its struct.
                assert_eq!(dtype.type_size() as u64, bytes, "{name}");
                compared += 1;
            }
        }
        assert_eq!(compared, 15);
        assert_eq!(GgmlType(12).bytes(512), Some(288));
        assert_eq!(GgmlType(12).bytes(511), None);
        assert_eq!(GgmlType(999).bytes(32), None);
        assert_eq!(GgmlType(23).to_string(), "IQ4_XS");
    }
}
