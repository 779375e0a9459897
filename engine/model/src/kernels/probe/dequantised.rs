//! Rows of a tensor as the kernel reads them that looks up the embedding of a token.

use crate::config::SEGMENT;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::panels::{Arena, PackedMatrix, Packing, PanelKind};
use crate::source::TensorBytes;

/// Packs a tensor as a model's matrices are packed, and gives some of its rows, dequantised one after the other.
///
/// # Errors
/// When the tensor is of a type that is not run, or has a value or a scale that is not finite.
///
/// # Panics
/// When the processor lacks the instruction set, the tensor has not the bytes of its shape, a row is no whole number
/// of blocks or segments, or there is no such row.
pub fn dequantised(
    tensor: &TensorBytes<'_>,
    isa: Isa,
    rows: impl IntoIterator<Item = usize>,
) -> Result<Vec<f32>, String> {
    let TensorBytes { dtype, columns, .. } = *tensor;
    let multiple = match PanelKind::of(dtype) {
        Some(kind) => kind.shape().superblock * SEGMENT,
        None => dtype.block_size(),
    };
    assert!(
        columns.is_multiple_of(multiple),
        "a row of {columns} is no multiple of {multiple}"
    );
    assert_eq!(
        tensor.bytes.len(),
        tensor.rows * columns / dtype.block_size() * dtype.type_size(),
        "bytes of the tensor"
    );
    let packing = Packing {
        arena: &mut Arena::default(),
        threads: 1,
    };
    let matrix =
        PackedMatrix::pack(tensor, packing).map_err(|error| error.found_and_expected().0)?;
    let kernels = Kernels::of(isa);
    let mut out = Vec::new();
    for row in rows {
        assert!(row < matrix.rows, "row {row} of {}", matrix.rows);
        let start = out.len();
        out.resize(start + columns, f32::NAN);
        // SAFETY: `of` checked the instructions; the matrix has this row, and the room is one row long.
        unsafe { (kernels.dequantise)(&matrix, row, &mut out[start..]) };
    }
    Ok(out)
}
