//! Explores the cost of the lowest floors in wall time; `instr.rs` is what gates.

use criterion::{Criterion, criterion_group, criterion_main};
use pombal::bytes::buffer::Buffer;
use pombal::probe::Histogram;
use std::hint::black_box;

fn buffer(criterion: &mut Criterion) {
    criterion.bench_function("buffer: 1 KiB in, 1 KiB out", |bencher| {
        let mut buffer = Buffer::new();
        bencher.iter(|| {
            assert_eq!(buffer.push(black_box(&[b'x'; 1_024])), 1_024);
            buffer.consume(1_024);
        });
    });
}

fn histogram(criterion: &mut Criterion) {
    let histogram = Histogram::default();
    criterion.bench_function("histogram: record", |bencher| {
        let mut value = 1_u64;
        bencher.iter(|| {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            histogram.record(black_box(value >> 44));
        });
    });
}

criterion_group!(floor, buffer, histogram);
criterion_main!(floor);
