use proptest::prelude::*;

use super::*;

const VOCABULARY: [u8; 32] = [7; 32];

fn counted(tokens: &[TokenId], most_runs: usize) -> Table {
    let mut table = Table::new(most_runs);
    for end in 1..tokens.len() {
        table.count(&tokens[..end], tokens[end]);
    }
    table
}

#[test]
fn the_longest_run_decides_then_frequency_then_recency() {
    for (tokens, expected) in [
        (&[1, 2, 3, 9, 2, 4, 9, 2, 4, 1, 2][..], Some((3, 2))), // 1 2 was followed by 3, though 2 more often by 4
        (&[2, 4, 9, 2, 4, 8, 2, 5, 7, 2], Some((4, 1))),        // 2 was followed by 4 twice and by 5 once
        (&[2, 4, 9, 2, 5, 7, 2], Some((5, 1))),                 // once each: the most recent
        (&[1, 2, 3, 4], None),
    ] {
        assert_eq!(counted(tokens, 1000).guess(tokens), expected, "{tokens:?}");
    }
}

#[test]
fn a_table_never_holds_more_than_its_bound() {
    let tokens: Vec<TokenId> = (0..10_000).map(|i| i * 7919 % 5003).collect();
    for bound in [1, 2, 100, 1000] {
        assert!(counted(&tokens, bound).len() <= bound, "{bound}");
    }
}

#[test]
fn a_table_comes_back_from_its_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("nested/table");
    let tokens = [1, 2, 3, 1, 2, 4, 1, 2, 3, 1, 2];
    let table = counted(&tokens, 1000);
    table.write(&path, VOCABULARY).expect("written");
    let again = Table::read(&path, VOCABULARY, 1000).expect("read");
    assert_eq!((again.guess(&tokens), again.len()), (table.guess(&tokens), table.len()));
    assert!(Table::read(&folder.path().join("absent"), VOCABULARY, 10).expect("empty").is_empty());
}

#[test]
fn each_kind_of_bad_file_is_refused_by_name() {
    type Damage = fn(&mut Vec<u8>);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("table");
    counted(&[1, 2, 3, 1, 2, 3], 1000).write(&path, VOCABULARY).expect("written");
    let good = std::fs::read(&path).expect("read");
    let cases: [(&str, Damage); 6] = [
        ("not a draft table", |bytes| bytes[0] ^= 1),
        ("another version", |bytes| bytes[8] ^= 2),
        ("another vocabulary", |bytes| bytes[30] ^= 1),
        ("damaged", |bytes| *bytes.last_mut().expect("bytes") ^= 1),
        ("cut short", |bytes| bytes.truncate(20)),
        ("larger than", |bytes| bytes.resize(200_000, 0)),
    ];
    for (expected, damage) in cases {
        let mut bytes = good.clone();
        damage(&mut bytes);
        std::fs::write(&path, bytes).expect("written");
        let error = Table::read(&path, VOCABULARY, 1000).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("delete it"), "{error}");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics_and_never_becomes_a_table(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("table");
        std::fs::write(&path, bytes).expect("written");
        prop_assert!(Table::read(&path, VOCABULARY, 1000).is_err());
    }
}

/// Runs seen once at `seen`, in a file of their own.
fn write_runs(path: &Path, runs: u32) {
    let tokens: Vec<TokenId> = (0..=runs).collect();
    let mut table = Table::new(usize::MAX);
    for pair in tokens.windows(2) {
        table.count(&pair[..1], pair[1]);
    }
    assert_eq!(table.len(), runs as usize);
    table.write(path, VOCABULARY).expect("written");
}

#[test]
fn a_file_never_brings_more_runs_than_wanted_and_the_newest_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("table");
    write_runs(&path, 100);
    let table = Table::read(&path, VOCABULARY, 30).expect("read");
    assert!((1..=30).contains(&table.len()), "{}", table.len());
    assert_eq!(table.guess(&[99]), Some((100, 1)));
    assert_eq!(table.guess(&[1]), None);
}

#[test]
fn a_file_that_claims_the_end_of_time_does_no_harm() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("table");
    counted(&[1, 2, 3], 1000).write(&path, VOCABULARY).expect("written");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[16..24].fill(0xff);
    std::fs::write(&path, bytes).expect("written");
    let mut table = Table::read(&path, VOCABULARY, 1000).expect("the clock is not what the checksum is for");
    table.count(&[8], 9);
    assert_eq!(table.guess(&[8]), Some((9, 1)));
}

/// Set in the processes that [`two_processes_write_one_file_and_it_is_always_whole`] starts: where to write, and how many runs.
const WRITER: &str = "ANEPIPE_TEST_TABLE_WRITER";

#[test]
fn two_processes_write_one_file_and_it_is_always_whole() {
    if let Ok(job) = std::env::var(WRITER) {
        let (runs, path) = job.split_once(' ').expect("a job");
        let runs = runs.parse().expect("a number");
        (0..40).for_each(|_| write_runs(Path::new(path), runs));
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("table");
    let start = |runs: u32| {
        std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "draft::table::tests::two_processes_write_one_file_and_it_is_always_whole"])
            .env(WRITER, format!("{runs} {}", path.display()))
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a writer")
    };
    let mut writers = [start(100), start(2000)];
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let done = writers.iter_mut().all(|writer| writer.try_wait().expect("a state").is_some());
        seen.insert(Table::read(&path, VOCABULARY, 100_000).expect("a whole table, or none yet").len());
        if done {
            break;
        }
    }
    for writer in &mut writers {
        assert!(writer.wait().expect("an end").success());
    }
    seen.remove(&0);
    assert!(!seen.is_empty() && seen.iter().all(|runs| [100, 2000].contains(runs)), "{seen:?}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "writers leave nothing beside the table");
}
