//! Weights, packed once at load into the order in which the kernels read them.
//!
//! A matrix of `rows` outputs by `columns` inputs becomes panels of 32 outputs, two halves of 16 lanes. A
//! panel holds, for each segment of 32 inputs in ascending order, what the kernel needs for those 32 x 32
//! weights in one contiguous block: the scales of both halves, then the raw quantised values of both, lanes
//! over outputs. So a product of one row reads memory once, from front to back. The packed matrix is as large
//! as the original, which is not kept.

mod memory;
mod pack;

use candle_core::quantized::GgmlDType;

use crate::config::SEGMENT;
use crate::quantize;
use crate::simd::LANES;
use crate::source::TensorBytes;
pub(crate) use memory::Arena;
use memory::Chunk;
use pack::pack_panel;

/// Halves of a panel.
pub(crate) const HALVES: usize = 2;
/// Outputs of a panel.
pub(crate) const PANEL: usize = HALVES * LANES;
/// Bytes of one word for each lane.
const WORDS: usize = 4 * LANES;

/// How the weights of a segment are stored, and so how the kernel reads and folds them.
///
/// "Nibbles" are 4 groups of 16 words: bits `4i` to `4i + 3` of group `g`'s word `l` belong to input `8g + i`
/// and lane `l`. Scales are f16, 16 of them, unless something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanelKind {
    /// `d * (q - 8)`, q of 4 bits: `d`; nibbles.
    Q4_0,
    /// `d * q + m`, q of 4 bits: `d`, `m`; nibbles.
    Q4_1,
    /// `d * (q - 16)`, q of 5 bits: `d`; nibbles, then one word a lane whose bit `k` is input k's fifth.
    Q5_0,
    /// `d * q + m`, q of 5 bits: `d`, `m`; as Q5_0.
    Q5_1,
    /// `d * q` with `q` a signed byte: `d`; 32 rows of 16 bytes.
    Q8_0,
    /// `(d * s) * q - dmin * m`, q of 4 bits, `s` and `m` of 6 bits for each segment: once for 8 segments `d`
    /// and `dmin`; for each 16 bytes `s` and 16 bytes `m`; nibbles.
    Q4K,
    /// As Q4K with the fifth bits of Q5_0.
    Q5K,
    /// `(d * s) * (q - 32)`, q of 6 bits, `s` a signed byte for each 16 inputs: once for 8 segments `d`; for
    /// each 16 bytes `s` of the first 16 inputs, 16 of the others; nibbles, then two words a lane: bits `2i`
    /// and `2i + 1` of word `w` are the upper two of input `16w + i`.
    Q6K,
    /// 32 rows of 16 f16.
    F16,
    /// 32 rows of 16 bfloat16.
    Bf16,
    /// 32 rows of 16 f32.
    F32,
}

/// Sizes in bytes, each for one half of a panel, and the length of a superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Segments that share a header.
    pub(crate) superblock: usize,
    /// What a superblock's segments share.
    pub(crate) header: usize,
    /// Scales and minima of a segment.
    pub(crate) scales: usize,
    /// Weights of a segment.
    pub(crate) weights: usize,
}

impl Shape {
    /// Where a segment's parts lie in a panel: header, scales and weights of the first half. Those of the
    /// second follow each of them.
    #[inline(always)]
    pub(crate) const fn parts(self, segment: usize) -> (usize, usize, usize) {
        let body = HALVES * (self.scales + self.weights);
        let start = segment / self.superblock * (HALVES * self.header + self.superblock * body);
        let scales = start + HALVES * self.header + segment % self.superblock * body;
        (start, scales, scales + HALVES * self.scales)
    }

    const fn panel_bytes(self, segments: usize) -> usize {
        segments / self.superblock * HALVES * self.header
            + segments * HALVES * (self.scales + self.weights)
    }
}

impl PanelKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::F16,
        Self::Bf16,
        Self::F32,
    ];

    pub(crate) const fn shape(self) -> Shape {
        const NIBBLES: usize = 4 * WORDS;
        let (superblock, header, scales, weights) = match self {
            Self::Q4_0 => (1, 0, 2 * LANES, NIBBLES),
            Self::Q4_1 => (1, 0, 4 * LANES, NIBBLES),
            Self::Q5_0 => (1, 0, 2 * LANES, NIBBLES + WORDS),
            Self::Q5_1 => (1, 0, 4 * LANES, NIBBLES + WORDS),
            Self::Q8_0 => (1, 0, 2 * LANES, SEGMENT * LANES),
            Self::Q4K => (8, 4 * LANES, 2 * LANES, NIBBLES),
            Self::Q5K => (8, 4 * LANES, 2 * LANES, NIBBLES + WORDS),
            Self::Q6K => (8, 2 * LANES, 2 * LANES, NIBBLES + 2 * WORDS),
            Self::F16 | Self::Bf16 => (1, 0, 0, 2 * SEGMENT * LANES),
            Self::F32 => (1, 0, 0, 4 * SEGMENT * LANES),
        };
        Shape {
            superblock,
            header,
            scales,
            weights,
        }
    }

    /// Bytes of what stands side by side for the 16 lanes: a word of nibbles, or a value.
    #[cfg(feature = "cuda")]
    pub(crate) const fn value_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 1,
            Self::F16 | Self::Bf16 => 2,
            _ => 4,
        }
    }

    /// The kind that holds tensors of `dtype`, if we run them.
    pub(crate) fn of(dtype: GgmlDType) -> Option<Self> {
        Some(match dtype {
            GgmlDType::Q4_0 => Self::Q4_0,
            GgmlDType::Q4_1 => Self::Q4_1,
            GgmlDType::Q5_0 => Self::Q5_0,
            GgmlDType::Q5_1 => Self::Q5_1,
            GgmlDType::Q8_0 => Self::Q8_0,
            GgmlDType::Q4K => Self::Q4K,
            GgmlDType::Q5K => Self::Q5K,
            GgmlDType::Q6K => Self::Q6K,
            GgmlDType::F16 => Self::F16,
            GgmlDType::BF16 => Self::Bf16,
            GgmlDType::F32 => Self::F32,
            _ => return None,
        })
    }

    /// What an error says that a matrix's type should be.
    pub(crate) fn expected() -> String {
        let names = Self::ALL.map(|kind| format!("{:?}", kind.dtype()));
        format!("one of the types this build runs: {}", names.join(", "))
    }

    /// Bytes of a packed matrix of (rows, columns).
    pub(crate) fn packed_bytes(self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(PANEL) * self.shape().panel_bytes(columns / SEGMENT)
    }

    /// GGUF's type of the weights that this kind holds.
    #[must_use]
    pub const fn dtype(self) -> GgmlDType {
        match self {
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_0 => GgmlDType::Q5_0,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q5K => GgmlDType::Q5K,
            Self::Q6K => GgmlDType::Q6K,
            Self::F16 => GgmlDType::F16,
            Self::Bf16 => GgmlDType::BF16,
            Self::F32 => GgmlDType::F32,
        }
    }
}

/// A packed weight matrix.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    pub(crate) kind: PanelKind,
    /// Outputs. The last panel is padded with zero weights.
    pub(crate) rows: usize,
    /// Inputs, a multiple of 32.
    pub(crate) columns: usize,
    panel_bytes: usize,
    chunk: Chunk,
}

/// What packing takes.
pub(crate) struct Packing<'a> {
    /// Where the panels go.
    pub(crate) arena: &'a mut Arena,
    /// Threads that share the work.
    pub(crate) threads: usize,
}

/// Fills the panel of a number.
type PackPanel<'a> = dyn Fn(usize, &mut [u8]) -> Result<(), PackError> + Sync + 'a;

/// Why a tensor cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PackError {
    /// Its type is none we run.
    Type(GgmlDType),
    /// The system has not so much memory.
    Memory { bytes: usize },
    /// A value or scale is infinite or not a number: output row, and the first input of its segment.
    NotFinite { row: usize, column: usize },
    /// The library does not quantise it.
    Quantize { reason: String },
}

impl PackError {
    /// What was found and what would be right, for an error that names the tensor.
    pub(crate) fn found_and_expected(&self) -> (String, String) {
        match self {
            Self::Type(dtype) => (format!("has type {dtype:?}"), PanelKind::expected()),
            Self::Memory { bytes } => (
                format!("needs {bytes} bytes of memory"),
                "as much free memory; the system refused it".to_owned(),
            ),
            Self::NotFinite { row, column } => (
                format!(
                    "has a value or scale that is not finite, in row {row}, columns {column}.."
                ),
                "finite weights; the file is damaged, compare its sha256".to_owned(),
            ),
            Self::Quantize { reason } => (
                format!("cannot be quantised: {reason}"),
                "weights that can be; load the model without quantising it".to_owned(),
            ),
        }
    }
}

impl PackedMatrix {
    /// Packs a tensor.
    pub(crate) fn pack(tensor: &TensorBytes<'_>, packing: Packing<'_>) -> Result<Self, PackError> {
        let kind = PanelKind::of(tensor.dtype).ok_or(PackError::Type(tensor.dtype))?;
        Self::fill(
            kind,
            (tensor.rows, tensor.columns),
            packing,
            &|panel, out| pack_panel(kind, tensor, panel, out),
        )
    }

    /// Packs a tensor of floating-point numbers as another type.
    pub(crate) fn quantize(
        tensor: &TensorBytes<'_>,
        to: GgmlDType,
        packing: Packing<'_>,
    ) -> Result<Self, PackError> {
        let kind = PanelKind::of(to).ok_or(PackError::Type(to))?;
        Self::fill(
            kind,
            (tensor.rows, tensor.columns),
            packing,
            &|panel, out| {
                let (rows, bytes) = quantize::panel(tensor, panel, to)?;
                let quantised = TensorBytes {
                    dtype: to,
                    rows,
                    columns: tensor.columns,
                    bytes: &bytes,
                    pairs: 0,
                };
                pack_panel(kind, &quantised, 0, out)
            },
        )
    }

    /// Makes every panel by `pack`, which is given its number.
    fn fill(
        kind: PanelKind,
        (rows, columns): (usize, usize),
        packing: Packing<'_>,
        pack: &PackPanel<'_>,
    ) -> Result<Self, PackError> {
        let Packing { arena, threads } = packing;
        let panel_bytes = kind.shape().panel_bytes(columns / SEGMENT);
        let panels = rows.div_ceil(PANEL);
        let size = kind.packed_bytes(rows, columns);
        let mut chunk = arena.take(size).ok_or(PackError::Memory { bytes: size })?;
        let bytes = chunk.bytes_mut();
        let share = panels.div_ceil(threads.max(1)).max(1);
        let outcome = std::thread::scope(|scope| {
            let parts: Vec<_> = bytes
                .chunks_mut(share * panel_bytes)
                .enumerate()
                .map(|(part, bytes)| {
                    let mut run = move || {
                        for (index, panel) in bytes.chunks_mut(panel_bytes).enumerate() {
                            pack(part * share + index, panel)?;
                        }
                        Ok(())
                    };
                    // A small matrix is packed before a thread has started.
                    if panels <= 64 {
                        Err(run())
                    } else {
                        Ok(scope.spawn(run))
                    }
                })
                .collect();
            parts.into_iter().try_for_each(|part| match part {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(done) => done,
            })
        });
        outcome.map(|()| Self {
            kind,
            rows,
            columns,
            panel_bytes,
            chunk,
        })
    }

    /// Panels of 32 outputs.
    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Segments of 32 inputs.
    pub(crate) fn segments(&self) -> usize {
        self.columns / SEGMENT
    }

    /// The bytes of one panel, segment after segment.
    pub(crate) fn panel(&self, index: usize) -> &[u8] {
        &self.chunk.bytes()[index * self.panel_bytes..][..self.panel_bytes]
    }

    /// Bytes that the packed matrix occupies.
    pub(crate) fn bytes(&self) -> usize {
        self.chunk.bytes().len()
    }
}
