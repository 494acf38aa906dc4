//! Files and directories on their way in and out.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use anepipe_artifacts::{Digest, How, StoreError, Tree};

use crate::support::Place;

fn refused<T: std::fmt::Debug>(result: &Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Refused { .. })), "{result:?}");
}

#[test]
fn ingest_moves_and_import_copies() {
    let place = Place::new();
    let store = place.store();
    let scratch = store.scratch("quantize layer 7").unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, b"moved").unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    let moved = store.ingest(&file).unwrap();
    assert!(!file.exists());
    assert_eq!(fs::metadata(store.path_of(moved.digest())).unwrap().ino(), inode);

    let outside = place.write("outside", b"copied");
    let copied = store.import(&outside).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"copied");
    assert_eq!(store.read(&copied).unwrap(), b"copied");
}

#[test]
fn only_a_scratch_gives_its_files_away() {
    let place = Place::new();
    let store = place.store();
    let outside = place.write("precious", b"precious");
    let scratch = store.scratch("s").unwrap();
    refused(&store.ingest(&outside));
    refused(&store.ingest(&scratch.path().join("../../../../precious")));
    refused(&store.ingest(scratch.path().parent().unwrap()));
    assert!(outside.exists());
}

#[test]
fn links_and_special_files_are_refused_before_anything_moves() {
    let place = Place::new();
    let store = place.store();
    let scratch = store.scratch("s").unwrap();
    let dir = scratch.path().join("out");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a"), b"a").unwrap();
    symlink("/etc/passwd", dir.join("z")).unwrap();
    refused(&store.ingest(&dir));
    refused(&store.ingest(&dir.join("z")));
    assert!(dir.join("a").exists(), "a file was moved although another was refused");
    fs::remove_file(dir.join("z")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("z")).unwrap();
    refused(&store.ingest(&dir));
    refused(&store.import(&dir));
    assert_eq!(store.stat().unwrap().objects, 0);
}

#[test]
fn a_file_with_a_second_name_is_not_shared_with_the_store() {
    let place = Place::new();
    let store = place.store();
    let scratch = store.scratch("s").unwrap();
    let outside = place.write("outside", b"shared");
    fs::hard_link(&outside, scratch.path().join("in")).unwrap();
    let artifact = store.ingest(&scratch.path().join("in")).unwrap();
    assert_ne!(
        fs::metadata(store.path_of(artifact.digest())).unwrap().ino(),
        fs::metadata(&outside).unwrap().ino()
    );

    // An object linked into a scratch, as a stage does that passes weights on, stays what it is.
    let before = fs::metadata(store.path_of(artifact.digest())).unwrap();
    let linked = scratch.path().join("linked");
    store.materialize(&artifact, &linked, How::Link).unwrap_err();
    fs::hard_link(store.path_of(artifact.digest()), &linked).unwrap();
    assert_eq!(store.ingest(&linked).unwrap(), artifact);
    let after = fs::metadata(store.path_of(artifact.digest())).unwrap();
    assert_eq!((before.ino(), after.nlink()), (after.ino(), 1));
}

#[test]
fn what_was_linked_for_a_stage_is_known_when_it_comes_back_unless_it_was_written_to() {
    let place = Place::new();
    let store = place.store();
    let weights = store.put_bytes(b"weights").unwrap();
    let mut tree = Tree::new();
    tree.insert_file("weights", *weights.digest(), weights.size()).unwrap();
    let package = store.put_tree(&tree).unwrap();

    let scratch = store.scratch("passed on").unwrap();
    let linked = store.link_into(&scratch, &package, "package").unwrap();
    fs::hard_link(linked.join("weights"), scratch.path().join("model")).unwrap();
    assert_eq!(store.ingest(&scratch.path().join("model")).unwrap(), weights);
    assert_eq!(store.ingest(&linked).unwrap(), package);

    let scratch = store.scratch("written to").unwrap();
    let linked = store.link_into(&scratch, &package, "package").unwrap().join("weights");
    fs::set_permissions(&linked, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&linked, b"WEIGHTS").unwrap();
    let written = store.ingest(&linked).unwrap();
    assert_eq!(*written.digest(), Digest::of_bytes(b"WEIGHTS"));
    assert_eq!(store.read(&written).unwrap(), b"WEIGHTS");
    store.read(&weights).unwrap_err();
}

#[test]
fn a_writer_stores_what_was_written_or_nothing() {
    let place = Place::new();
    let store = place.store();
    let mut writer = store.blob_writer().unwrap();
    let mut whole = Vec::new();
    for n in 0..1000_u32 {
        let part = n.to_le_bytes().repeat((n % 700) as usize);
        writer.write_all(&part).unwrap();
        whole.extend(part);
    }
    let artifact = writer.finish().unwrap();
    assert_eq!((*artifact.digest(), artifact.size()), (Digest::of_bytes(&whole), whole.len() as u64));
    assert_eq!(store.read(&artifact).unwrap(), whole);

    let empty = store.blob_writer().unwrap().finish().unwrap();
    assert_eq!((*empty.digest(), empty.size()), (Digest::of_bytes(b""), 0));
    assert_eq!(store.read(&empty).unwrap(), b"");

    let mut dropped = store.blob_writer().unwrap();
    dropped.write_all(&whole).unwrap();
    dropped.flush().unwrap();
    drop(dropped);
    assert_eq!((store.stat().unwrap().objects, store.stat().unwrap().scratch_bytes), (2, 0));
}

#[test]
fn a_link_shares_the_object_and_a_copy_does_not() {
    let place = Place::new();
    let store = place.store();
    let artifact = store.put_bytes(b"output").unwrap();
    let object = fs::metadata(store.path_of(artifact.digest())).unwrap();
    store.materialize(&artifact, &place.path("deep/er/link"), How::Link).unwrap();
    let link = fs::metadata(place.path("deep/er/link")).unwrap();
    assert_eq!((link.ino(), link.mode() & 0o222), (object.ino(), 0));
    store.materialize(&artifact, &place.path("copy"), How::Copy).unwrap();
    let copy = fs::metadata(place.path("copy")).unwrap();
    assert_ne!(copy.ino(), object.ino());
    fs::write(place.path("copy"), b"edited").unwrap();
    assert_eq!(store.read(&artifact).unwrap(), b"output");
}

/// A directory of two files whose names and contents say `version`.
fn version(store: &anepipe_artifacts::Store, version: &str) -> anepipe_artifacts::Artifact {
    let file = store.put_bytes(version.as_bytes()).unwrap();
    let mut tree = Tree::new();
    tree.insert_file("same", *file.digest(), file.size()).unwrap();
    tree.insert_file(format!("sub/{version}"), *file.digest(), file.size()).unwrap();
    store.put_tree(&tree).unwrap()
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_output_is_replaced_whole() {
    let place = Place::new();
    let store = place.store();
    let out = place.path("room/out");
    for how in [How::Link, How::Copy] {
        for name in ["one", "two", "two"] {
            store.replace(&version(&store, name), &out, how).unwrap();
            assert_eq!(fs::read_to_string(out.join("same")).unwrap(), name);
            assert_eq!(names(&out.join("sub")), [name]);
            assert_eq!(names(&place.path("room")), ["out"], "something was left beside the output");
        }
    }
    // From a directory to a file and back.
    let file = store.put_bytes(b"file").unwrap();
    store.replace(&file, &out, How::Link).unwrap();
    assert_eq!(fs::read(&out).unwrap(), b"file");
    store.replace(&version(&store, "one"), &out, How::Link).unwrap();
    assert_eq!(names(&out), ["same", "sub"]);
}

#[test]
fn a_directory_with_something_in_it_is_not_replaced_unasked() {
    let place = Place::new();
    let store = place.store();
    let precious = place.write("home/precious", b"precious");
    for how in [How::Link, How::Copy] {
        refused(&store.materialize(&version(&store, "one"), &place.path("home"), how));
        refused(&store.materialize(&store.put_bytes(b"x").unwrap(), &place.path("home"), how));
    }
    assert_eq!(fs::read(precious).unwrap(), b"precious");
    assert_eq!(names(&place.path("")), ["cache", "home"]);
    // An empty one is fine, and so is what is there already.
    fs::create_dir(place.path("empty")).unwrap();
    for _ in 0..2 {
        store.materialize(&version(&store, "one"), &place.path("empty"), How::Link).unwrap();
    }
    // Something added to it makes it somebody's again.
    fs::write(place.path("empty/sub/mine"), b"").unwrap();
    refused(&store.materialize(&version(&store, "one"), &place.path("empty"), How::Link));
}

#[test]
fn the_cache_itself_is_no_destination() {
    let place = Place::new();
    let store = place.store();
    let artifact = version(&store, "one");
    for dest in [place.cache(), place.cache().join("cas"), place.path(""), "/".into()] {
        refused(&store.replace(&artifact, &dest, How::Copy));
    }
    assert!(store.read(&artifact).is_ok());
}

#[test]
fn an_output_that_is_linked_already_is_left_alone() {
    let place = Place::new();
    let store = place.store();
    let out = place.path("out");
    store.replace(&version(&store, "one"), &out, How::Link).unwrap();
    let before = fs::metadata(&out).unwrap().ino();
    store.replace(&version(&store, "one"), &out, How::Link).unwrap();
    assert_eq!(fs::metadata(&out).unwrap().ino(), before);
    store.replace(&version(&store, "two"), &out, How::Link).unwrap();
    assert_ne!(fs::metadata(&out).unwrap().ino(), before);
}

#[test]
fn outputs_that_overtake_each_other_all_succeed() {
    const THREADS: usize = 4;
    let place = Place::new();
    let store = place.store();
    let outputs: Vec<_> = (0..THREADS).map(|n| version(&store, &n.to_string())).collect();
    let out = place.path("room/out");
    for _ in 0..20 {
        let _ = fs::remove_dir_all(&out);
        let together = std::sync::Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for output in &outputs {
                scope.spawn(|| {
                    together.wait();
                    store.replace(output, &out, How::Link).unwrap();
                });
            }
        });
        let winner = fs::read_to_string(out.join("same")).unwrap();
        assert_eq!(names(&out.join("sub")), [winner]);
    }
    assert_eq!(names(&place.path("room")), ["out"]);
}

#[test]
fn a_missing_object_leaves_the_earlier_output() {
    let place = Place::new();
    let store = place.store();
    let out = place.path("room/out");
    store.replace(&version(&store, "one"), &out, How::Copy).unwrap();
    let two = version(&store, "two");
    fs::remove_file(store.path_of(&Digest::of_bytes(b"two"))).unwrap();
    assert!(matches!(store.replace(&two, &out, How::Copy), Err(StoreError::Corrupt { .. })));
    assert_eq!(fs::read_to_string(out.join("same")).unwrap(), "one");
    assert_eq!(names(&place.path("room")), ["out"]);
}

#[test]
fn what_a_killed_process_left_beside_the_output_is_removed() {
    let place = Place::new();
    let store = place.store();
    place.write("room/.out.anepipe-dead/new", b"half");
    place.write("room/.out.anepipe-alive/new", b"half");
    let alive = fs::File::open(place.path("room/.out.anepipe-alive")).unwrap();
    alive.lock().unwrap();
    store.replace(&version(&store, "one"), &place.path("room/out"), How::Link).unwrap();
    assert_eq!(names(&place.path("room")), [".out.anepipe-alive", "out"]);
}

#[test]
fn a_scratch_is_removed_even_if_a_stage_locked_itself_out() {
    let place = Place::new();
    let store = place.store();
    let scratch = store.scratch("../odd label/").unwrap();
    let dir = scratch.path().to_owned();
    assert!(dir.starts_with(place.cache().join("tmp")));
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/file"), b"").unwrap();
    fs::set_permissions(dir.join("sub"), fs::Permissions::from_mode(0o000)).unwrap();
    drop(scratch);
    assert!(!dir.exists());
}
