//! Every kernel, for one row and for many, on the instruction set of `KAKEYA_ISA` or the best there is.
//!
//! The shapes are those of SmolLM2-135M: products of 576 by 1536, heads of 64 over 1024 keys. Throughput is in
//! floating-point operations a second, of one thread; the processor's limit is 2 for each lane and multiply-add.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kakeya_model::probe::{Kernel, Probe, ProbeShape};
use kakeya_model::{Draw, Drawer, Isa};

const ROWS: [usize; 5] = [1, 4, 16, 64, 512];
/// Logits of SmolLM2, and of Gemma 3.
const VOCABULARIES: [usize; 2] = [49_152, 262_144];

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

/// A token, from a few logits that stand out and many that do not.
fn draws(criterion: &mut Criterion) {
    for (name, top_k, top_p) in [
        ("all", 0, 1.0),
        ("top_p 0.9", 0, 0.9),
        ("top_k 40, top_p 0.95", 40, 0.95),
    ] {
        let mut group = criterion.benchmark_group(format!("draw/{name}"));
        for vocabulary in VOCABULARIES {
            let noise = |at: usize| ((at * 7919 + 13) % 4001) as f32 / 250.0 - 8.0;
            let mut logits: Vec<f32> = (0..vocabulary).map(noise).collect();
            for at in 0..20 {
                logits[at * 997] += 12.0 + 0.3 * at as f32;
            }
            let (mut drawer, mut random) = (Drawer::default(), 0_u64);
            group.bench_with_input(
                BenchmarkId::from_parameter(vocabulary),
                &logits,
                |bencher, logits| {
                    bencher.iter(|| {
                        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                        let draw = Draw {
                            temperature: 0.9,
                            top_k,
                            top_p,
                            min_p: 0.0,
                            random,
                        };
                        drawer.draw(black_box(logits), &draw)
                    });
                },
            );
        }
        group.finish();
    }
}

criterion_group!(benches, kernels, draws);
criterion_main!(benches);
