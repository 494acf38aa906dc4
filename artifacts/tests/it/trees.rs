//! Directories as trees: one directory, one spelling, one digest.

use std::collections::BTreeMap;
use std::fs;

use anepipe_artifacts::{Artifact, Digest, How, Node, StoreError, Tree, TreeError};
use proptest::prelude::*;

use crate::support::Place;

#[test]
fn has_the_documented_spelling() {
    let digest = Digest::of_bytes(b"x");
    let mut tree = Tree::new();
    tree.insert_dir("empty").unwrap();
    tree.insert_file("b/weights \"1\".bin", digest, 1).unwrap();
    tree.insert_file("a", digest, 1).unwrap();
    let expected = format!(r#"{{"entries":[{{"digest":"{digest}","kind":"file","path":"a","size":1}},"#)
        + &format!(r#"{{"digest":"{digest}","kind":"file","path":"b/weights \"1\".bin","size":1}},"#)
        + r#"{"kind":"dir","path":"empty"}],"schema":1}"#;
    assert_eq!(String::from_utf8(tree.to_canonical()).unwrap(), expected);
    assert_eq!(Tree::from_canonical(expected.as_bytes()).unwrap(), tree);
}

#[test]
fn refuses_what_could_lead_out_or_collide() {
    let digest = Digest::of_bytes(b"");
    let insert = |tree: &mut Tree, path: &str| tree.insert_file(path, digest, 0);
    let long = "x".repeat(256);
    for path in ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "a\\b", "a\0b", &long] {
        let error = insert(&mut Tree::new(), path).unwrap_err();
        assert!(matches!(error, TreeError::BadPath { .. }), "{path:?}: {error}");
        let stored = format!(
            r#"{{"entries":[{{"digest":"{digest}","kind":"file","path":{},"size":0}}],"schema":1}}"#,
            serde_json::Value::from(path)
        );
        assert!(Tree::from_canonical(stored.as_bytes()).is_err(), "{path:?} was read");
    }
    for (first, second) in [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "a")] {
        let mut tree = Tree::new();
        insert(&mut tree, first).unwrap();
        let conflict = TreeError::Conflict { path: second.to_owned() };
        assert_eq!(insert(&mut tree, second), Err(conflict), "{first} and {second}");
    }
    let mut tree = Tree::new();
    tree.insert_dir("a").unwrap();
    tree.insert_file("a/b", digest, 0).unwrap();
    tree.insert_dir("a").unwrap();
    assert_eq!(tree.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["a/b"]);
}

#[test]
fn reads_nothing_but_the_canonical_form() {
    let digest = Digest::of_bytes(b"");
    let entry = |path: &str| format!(r#"{{"digest":"{digest}","kind":"file","path":"{path}","size":0}}"#);
    let tree = |entries: &str| format!(r#"{{"entries":[{entries}],"schema":1}}"#);
    let good = tree(&format!("{},{}", entry("a"), entry("b")));
    assert!(Tree::from_canonical(good.as_bytes()).is_ok());
    for bad in [
        String::new(),
        "null".to_owned(),
        good.replace(r#""schema":1"#, r#""schema":2"#),
        tree(&format!("{},{}", entry("b"), entry("a"))),
        good.replace(',', ", "),
        format!("{good} "),
        good.replace(r#""size":0"#, r#""size":0,"mode":1"#),
        good.replace(r#""kind":"file""#, r#""kind":"dir""#),
        good.replace(r#","size":0"#, ""),
        good.replace(r#""path":"a""#, r#""path":"\u0061""#),
        "[".repeat(200_000),
    ] {
        assert!(Tree::from_canonical(bad.as_bytes()).is_err(), "{bad:.200} was read");
    }
}

#[test]
fn a_bundle_is_made_of_parts_without_touching_them() {
    let place = Place::new();
    let store = place.store();
    let mut shard = Tree::new();
    let weights = store.put_bytes(b"weights").unwrap();
    shard.insert_file("weights/weight.bin", *weights.digest(), weights.size()).unwrap();
    shard.insert_dir("analytics").unwrap();
    let shard = store.put_tree(&shard).unwrap();
    let mut bundle = Tree::new();
    bundle.insert_tree("shards/0.mlmodelc", &store.tree(&shard).unwrap()).unwrap();
    bundle.insert_tree("reports", &Tree::new()).unwrap();
    let stored = store.tree(&store.put_tree(&bundle).unwrap()).unwrap();
    assert_eq!(stored.file("shards/0.mlmodelc/weights/weight.bin"), Some(weights));
    assert_eq!(stored.get("reports"), Some(Node::EmptyDir));
    assert_eq!(stored.total_size(), 7);

    let mut broken = Tree::new();
    broken.insert_file("absent", Digest::of_bytes(b"absent"), 6).unwrap();
    assert!(matches!(store.put_tree(&broken), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_tree_that_lies_about_itself_is_corrupt() {
    let place = Place::new();
    let store = place.store();
    let blob = store.put_bytes(b"{}").unwrap();
    let posing = Artifact::Tree { digest: *blob.digest(), size: blob.size() };
    assert!(matches!(store.tree(&posing), Err(StoreError::Corrupt { .. })));
    assert!(matches!(store.tree(&blob), Err(StoreError::Corrupt { .. })));
    let huge = Artifact::Tree { digest: *blob.digest(), size: 1 << 60 };
    assert!(matches!(store.tree(&huge), Err(StoreError::Corrupt { .. })));
}

/// Directories of a few files: paths of one to three parts, where the first letter keeps files and directories apart.
fn directories() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let path = ("d[a-c]/", "d[a-c]/|", "f[a-zé \"]{1,3}").prop_map(|(a, b, c)| format!("{a}{b}{c}"));
    prop::collection::btree_map(path, prop::collection::vec(any::<u8>(), 0..20), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Written to a disk in any order, taken in, put out and taken in again, a directory keeps its digest and content.
    #[test]
    fn a_directory_comes_back_as_it_was(files in directories(), link in any::<bool>(), backwards in any::<bool>()) {
        let place = Place::new();
        let store = place.store();
        let scratch = store.scratch("test").unwrap();
        let dir = scratch.path().join("out");
        fs::create_dir(&dir).unwrap();
        let mut order: Vec<_> = files.iter().collect();
        if backwards {
            order.reverse();
        }
        let mut expected = Tree::new();
        for (path, content) in order {
            let full = dir.join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(&full, content).unwrap();
            expected.insert_file(path.clone(), Digest::of_bytes(content), content.len() as u64).unwrap();
        }
        let artifact = store.ingest(&dir).unwrap();
        prop_assert_eq!(artifact.digest(), &Digest::of_bytes(&expected.to_canonical()));
        prop_assert_eq!(&store.tree(&artifact).unwrap(), &expected);
        prop_assert!(!dir.exists());

        let dest = place.path("dest");
        store.materialize(&artifact, &dest, if link { How::Link } else { How::Copy }).unwrap();
        for (path, content) in &files {
            prop_assert_eq!(&fs::read(dest.join(path)).unwrap(), content);
        }
        prop_assert_eq!(store.import(&dest).unwrap(), artifact);
    }

    /// The order of insertion leaves no trace, and the spelling reads back as the same tree.
    #[test]
    fn one_tree_has_one_spelling(mut paths in prop::collection::vec("[a-b]{1,2}(/[a-b]{1,2}){0,2}", 0..12), size: u64) {
        let build = |paths: &[String]| {
            let mut tree = Tree::new();
            let mut taken = Vec::new();
            for path in paths {
                if tree.insert_file(path.clone(), Digest::of_bytes(path.as_bytes()), size).is_ok() {
                    taken.push(path.clone());
                }
            }
            (tree, taken)
        };
        let (tree, taken) = build(&paths);
        paths = taken;
        paths.reverse();
        prop_assert_eq!(&build(&paths).0, &tree);
        prop_assert_eq!(&Tree::from_canonical(&tree.to_canonical()).unwrap(), &tree);
    }

    /// No bytes make the reader panic, and what it reads is spelled as it was.
    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..64), at: prop::sample::Index, with: u8) {
        let _ = Tree::from_canonical(&bytes);
        let mut tree = Tree::new();
        tree.insert_file("a/b", Digest::of_bytes(b""), 7).unwrap();
        let mut spelled = tree.to_canonical();
        let at = at.index(spelled.len());
        spelled[at] = with;
        if let Ok(read) = Tree::from_canonical(&spelled) {
            prop_assert_eq!(read.to_canonical(), spelled);
        }
    }
}
