//! Explores the cost of whole sessions on the bare machines in wall time; `instr.rs` gates.

mod cases {
    pub(crate) mod mail;
    pub(crate) mod session;
}

use cases::{mail, session};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pombal::proto::smtp::Settings;
use std::rc::Rc;

fn smtp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("smtp");
    let settings: Rc<Settings> = Rc::default();
    let message = mail::message(10 << 10);
    for (name, input) in
        [("DATA", session::by_data(&message)), ("BDAT", session::by_bdat(&message))]
    {
        group.throughput(Throughput::Bytes(10 << 10));
        group.bench_function(format!("10 KiB by {name}"), |bencher| {
            bencher.iter(|| assert_eq!(session::smtp(&settings, &input), message));
        });
    }
    group.finish();
}

fn pop3(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pop3");
    let maildrop = session::Same::new(1_000, 4 << 10);
    group.throughput(Throughput::Elements(100));
    let retrieve = session::retrieve_all(100);
    group.bench_function("RETR 100 of 4 KiB", |bencher| {
        bencher.iter(|| assert!(session::pop3(&maildrop, &retrieve) > 100 * (4 << 10)));
    });
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("LIST 1000", |bencher| {
        let least = session::listing_octets(1_000, 4 << 10);
        bencher.iter(|| assert!(session::pop3(&maildrop, b"LIST\r\n") > least));
    });
    group.finish();
}

criterion_group!(machines, smtp, pop3);
criterion_main!(machines);
