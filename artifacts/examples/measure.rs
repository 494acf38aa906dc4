//! Prints what the store costs on this machine: `cargo run --release -p anepipe-artifacts --example measure [DIR]`.
//!
//! The build it imitates has 32 layers and 7 stages: 230 actions whose outputs are some 1,000 objects.

#![allow(clippy::print_stdout)]

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anepipe_artifacts::{ActionRecord, Artifact, Digest, How, Key, KeyManifest, Store, StoreError};

const ACTIONS: usize = 230;
const FILES: usize = 4;
const BIG: u64 = 1 << 30;

fn main() -> Result<(), StoreError> {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(base)
        .map_err(|source| StoreError::Io { doing: "a directory".into(), source })?;
    let cache = dir.path().join("cache");

    let store = Store::open(&cache)?;
    let keys = time("write: 230 actions, 920 files of 2 KB, as 230 directories", || fill(&store))?;
    time("settle them", || store.settle())?;
    time("write the index and close", || {
        drop(store);
        Ok(())
    })?;
    for _ in 0..3 {
        let mut hits = 0;
        let store = time("no-op: open", || Store::open(&cache))?;
        time("no-op: 230 lookups", || {
            for key in &keys {
                hits += usize::from(store.lookup(key)?.is_some());
            }
            Ok(())
        })?;
        time("no-op: close", || {
            drop(store);
            Ok(())
        })?;
        println!("    {hits} hits");
    }

    let store = Store::open(&cache)?;
    let mut block: Vec<u8> =
        (0..1_u32 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut plain = dir.path().join("plain");
    let rate = |what: &str, seconds: f64| println!("    {what}: {:.2} GB/s", BIG as f64 / 1e9 / seconds);
    let mut artifact = store.put_bytes(b"")?;
    for round in 0..3_u8 {
        // Other content each time, or the store would have nothing to write.
        block[0] = round;
        // A new file each time, as each object is one: memory and disk that were never used are slower than used ones.
        plain = dir.path().join(format!("plain{round}"));
        let seconds = timed("write a file of 1 GiB", || write_plain(&plain, &block))?.1;
        rate("plain write", seconds);
        time("flush it", || std::fs::File::open(&plain).and_then(|file| file.sync_data()).map_err(failed))?;
        let (written, seconds) = timed("blob_writer: 1 GiB", || write_blob(&store, &block))?;
        rate("write and digest", seconds);
        time("settle", || {
            record(&store, ACTIONS + usize::from(round), written)?;
            store.settle()
        })?;
        artifact = written;
    }
    let ((digest, _), seconds) = timed("digest_of_input: 1 GiB", || store.digest_of_input(&plain))?;
    rate("digest", seconds);
    assert_eq!(digest, *artifact.digest());
    let scratch = store.scratch("measure")?;
    let file = scratch.path().join("file");
    write_plain(&file, &block[1..])?;
    let seconds = timed("ingest: 1 GiB", || store.ingest(&file))?.1;
    rate("ingest", seconds);
    time("materialize 1 GiB as a link", || {
        store.materialize(&artifact, &dir.path().join("link"), How::Link)
    })?;
    let copied = dir.path().join("copy");
    let seconds =
        timed("materialize 1 GiB as a copy", || store.materialize(&artifact, &copied, How::Copy))?.1;
    rate("copy", seconds);
    let (report, seconds) = timed("verify", || store.verify(anepipe_artifacts::Repair::No))?;
    println!(
        "    verify: {:.2} GB/s, {} findings",
        report.bytes as f64 / 1e9 / seconds,
        report.findings.len()
    );
    Ok(())
}

fn fill(store: &Store) -> Result<Vec<Key>, StoreError> {
    (0..ACTIONS)
        .map(|n| {
            let scratch = store.scratch("measure")?;
            let out = scratch.path().join("out");
            for file in 0..FILES {
                write_at(
                    &out.join(format!("part{file}.bin")),
                    format!("{n} {file} ").repeat(300).as_bytes(),
                )?;
            }
            record(store, n, store.ingest(&out)?)
        })
        .collect()
}

fn record(store: &Store, n: usize, artifact: Artifact) -> Result<Key, StoreError> {
    let manifest = KeyManifest::new("stage", 1)
        .parameter("n", n)
        .parameter("scheme", "int8")
        .input("layer", Digest::of_bytes(&n.to_le_bytes()))
        .environment("anepipe", "0.1.0");
    let outputs = [("out".to_owned(), artifact)].into();
    store.record(
        &manifest.key(),
        &ActionRecord::new(&manifest, format!("layer {n}"), outputs, Duration::ZERO),
    )?;
    Ok(manifest.key())
}

fn write_at(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    std::fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| std::fs::write(path, bytes))
        .map_err(failed)
}

fn write_plain(path: &Path, block: &[u8]) -> Result<(), StoreError> {
    let mut file = std::fs::File::create(path).map_err(failed)?;
    (0..BIG >> 20).try_for_each(|_| file.write_all(block)).map_err(failed)
}

fn write_blob(store: &Store, block: &[u8]) -> Result<Artifact, StoreError> {
    let mut writer = store.blob_writer()?;
    (0..BIG >> 20).try_for_each(|_| writer.write_all(block)).map_err(failed)?;
    writer.finish()
}

fn failed(source: std::io::Error) -> StoreError {
    StoreError::Io { doing: "writing a test file".into(), source }
}

fn time<T>(what: &str, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    timed(what, work).map(|(value, _)| value)
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T, StoreError>) -> Result<(T, f64), StoreError> {
    let started = Instant::now();
    let value = work()?;
    let elapsed = started.elapsed();
    println!("{:>9.2} ms  {what}", elapsed.as_secs_f64() * 1e3);
    Ok((value, elapsed.as_secs_f64()))
}
