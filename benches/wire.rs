//! Explores the cost of lines, paths and messages in wall time; `instr.rs` is what gates.

mod cases {
    pub(crate) mod mail;
    pub(crate) mod wire;
}

use cases::{mail, wire};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pombal::bytes::codec::to_u64;

fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let input = wire::commands();
    group.throughput(Throughput::Bytes(to_u64(input.len())));
    group.bench_function("3000 lines", |bencher| {
        bencher.iter(|| assert_eq!(wire::take_lines(&input), 3_000));
    });
    group.throughput(Throughput::Elements(to_u64(wire::PATHS.len())));
    group.bench_function("6 paths", |bencher| {
        bencher.iter(|| assert_eq!(wire::parse_paths(), 5));
    });
    group.finish();
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    let message = mail::message(10 << 10);
    let stuffed = [&message[..], b".\r\n"].concat();
    group.throughput(Throughput::Bytes(to_u64(message.len())));
    group.bench_function("unstuff 10 KiB", |bencher| {
        bencher.iter(|| assert_eq!(wire::unstuff(&stuffed), 10 << 10));
    });
    let messages = wire::parsed(16, 4 << 10);
    group.throughput(Throughput::Bytes(16 * (4 << 10)));
    group.bench_function("search 16 of 4 KiB", |bencher| {
        bencher.iter(|| assert_eq!(wire::search(&messages, "needle"), 0));
    });
    group.finish();
}

criterion_group!(floor, lines, messages);
criterion_main!(floor);
