//! Every kernel, for one row and for many, on the instruction set of `KAKEYA_ISA` or the best there is.
//!
//! The shapes are those of SmolLM2-135M: products of 576 by 1536, heads of 64 over 1024 keys. Throughput is in
//! floating-point operations a second, of one thread; the processor's limit is 2 for each lane and multiply-add.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kakeya_model::Isa;
use kakeya_model::probe::{Kernel, Probe, ProbeShape};

const ROWS: [usize; 5] = [1, 4, 16, 64, 512];

fn kernels(criterion: &mut Criterion) {
    let isa = match Isa::from_env() {
        Ok(isa) => isa,
        Err(error) => panic!("{error}"),
    };
    for kernel in Kernel::all() {
        let mut group = criterion.benchmark_group(format!("{}/{isa}", kernel.name()));
        group.sample_size(20);
        for rows in ROWS {
            let shape = ProbeShape {
                rows,
                // The least multiple of 256, the block of the K types, above the model's 576.
                inputs: 768,
                outputs: 1536,
                keys: 1024,
            };
            let mut probe = Probe::new(kernel, isa, shape, 1);
            group.throughput(Throughput::Elements(probe.operations()));
            group.bench_with_input(BenchmarkId::from_parameter(rows), &rows, |bencher, _| {
                bencher.iter(|| black_box(&mut probe).run());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
