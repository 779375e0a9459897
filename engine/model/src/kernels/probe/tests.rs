//! Each kernel against what it should compute, on every instruction set.

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};

use super::*;

const SHAPE: ProbeShape = ProbeShape {
    rows: 1,
    inputs: 512,
    outputs: 72,
    keys: 100,
};

/// The weights of a matrix as candle reads them from the same bytes.
fn by_candle(kind: PanelKind, bytes: &[u8], rows: usize, columns: usize) -> Vec<f32> {
    let device = Device::Cpu;
    let shape = [rows, columns];
    let tensor = match kind.dtype() {
        GgmlDType::F16 => Tensor::from_raw_buffer(bytes, DType::F16, &shape, &device).unwrap(),
        GgmlDType::BF16 => Tensor::from_raw_buffer(bytes, DType::BF16, &shape, &device).unwrap(),
        GgmlDType::F32 => Tensor::from_raw_buffer(bytes, DType::F32, &shape, &device).unwrap(),
        dtype => {
            let storage = candle_core::quantized::QStorage::from_data(
                std::borrow::Cow::Borrowed(bytes),
                &device,
                dtype,
            )
            .unwrap();
            let quantised = QTensor::new(storage, shape.as_slice()).unwrap();
            quantised.dequantize(&device).unwrap()
        }
    };
    let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    tensor.to_vec1().unwrap()
}

#[test]
fn a_packed_row_dequantises_to_what_candle_reads_from_the_same_bytes() {
    let (rows, columns) = (SHAPE.outputs, SHAPE.inputs);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
        for kind in PanelKind::ALL {
            let bytes = random_bytes(kind, rows, columns, 77);
            let expected = by_candle(kind, &bytes, rows, columns);
            let matrix = random_matrix(kind, rows, columns, 77);
            let mut found = vec![0.0; columns];
            for (row, expected) in expected.chunks_exact(columns).enumerate() {
                // SAFETY: `of` checks the instructions, and the matrix has this row.
                unsafe { (Kernels::of(isa).dequantise)(&matrix, row, &mut found) };
                assert_eq!(found, expected, "{kind:?} on {isa}, row {row}");
            }
        }
    }
}

#[test]
fn a_product_is_the_float64_product_of_the_dequantised_weights() {
    let (rows, columns) = (SHAPE.outputs, SHAPE.inputs);
    for kind in PanelKind::ALL {
        let weights = by_candle(
            kind,
            &random_bytes(kind, rows, columns, 7 ^ 5),
            rows,
            columns,
        );
        let mut probe = Probe::new(Kernel::Linear(kind), Isa::detect(), SHAPE, 7);
        probe.run();
        let x = noise(7, columns);
        for (output, (found, weights)) in probe
            .row_zero()
            .iter()
            .zip(weights.chunks_exact(columns))
            .enumerate()
        {
            let terms = || {
                x.iter()
                    .zip(weights)
                    .map(|(x, w)| f64::from(*x) * f64::from(*w))
            };
            let (expected, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
            let difference = (f64::from(*found) - expected).abs();
            assert!(
                difference <= 4e-6 * size,
                "{kind:?}, output {output}: {found} and {expected}"
            );
        }
    }
}

#[test]
fn every_instruction_set_and_number_of_rows_gives_the_same_bits() {
    for kernel in Kernel::all() {
        let row_zero = |isa, rows| {
            let mut probe = Probe::new(kernel, isa, ProbeShape { rows, ..SHAPE }, 3);
            probe.run();
            let row = probe.row_zero();
            assert!(
                row.iter().all(|value| value.is_finite()),
                "{kernel:?} on {isa}"
            );
            row.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let expected = row_zero(Isa::Scalar, 1);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
            for rows in [1, 2, 3, 7, 12, 13, 97] {
                assert!(
                    row_zero(isa, rows) == expected,
                    "{kernel:?}, {isa}, {rows} rows"
                );
            }
        }
    }
}
