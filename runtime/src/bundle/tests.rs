//! Whole bundles open, and damaged ones are refused by name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::manifest::{Provenance, Role};
use super::*;
use crate::rope::RopeSpec;

/// The files of a whole bundle of a model with 4 layers and 10 tokens, each with its own name as content.
const FILES: [&str; 7] = [
    "embedding.safetensors",
    "shards/layers_000_002.mlmodelc/model.mil",
    "shards/layers_002_004.mlmodelc/model.mil",
    "shards/lm_head_000_005.mlmodelc/model.mil",
    "shards/lm_head_005_010.mlmodelc/model.mil",
    "token_embeddings.safetensors",
    "tokenizer.json",
];

fn bundle() -> (tempfile::TempDir, Manifest) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut files = BTreeMap::new();
    for name in FILES {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, name).expect("a written file");
        let blake3 = blake3::hash(name.as_bytes()).to_hex().to_string();
        files.insert(name.to_owned(), FileEntry { blake3, size: name.len() as u64 });
    }
    let shard = |role, range, path: &str| ShardEntry {
        role,
        range,
        path: path.to_owned(),
        digest: String::new(),
        states: vec![],
    };
    let number = |value: u32| json!({"value": value, "source": "a key"});
    let manifest = Manifest {
        schema: SCHEMA,
        contract: json!({"hidden": number(64), "vocab": number(10), "layers": number(4)}),
        style: "stateful".to_owned(),
        block: 4,
        widths: vec![1, 4],
        context: 256,
        quantization: "int8".to_owned(),
        shards: vec![
            shard(Role::Layers, [0, 2], "shards/layers_000_002.mlmodelc"),
            shard(Role::Layers, [2, 4], "shards/layers_002_004.mlmodelc"),
            shard(Role::LmHead, [0, 5], "shards/lm_head_000_005.mlmodelc"),
            shard(Role::LmHead, [5, 10], "shards/lm_head_005_010.mlmodelc"),
        ],
        rope: RopeSpec { rope_dim: 24, base: 1e4, factors: None, attn_factor: 1.0 },
        token_embeddings: "token_embeddings.safetensors".to_owned(),
        embedding: Some("embedding.safetensors".to_owned()),
        tokenizer: Some("tokenizer.json".to_owned()),
        gates: vec![],
        files,
        provenance: Provenance { source: String::new(), versions: BTreeMap::new() },
    };
    (folder, manifest)
}

fn open(folder: &Path, manifest: &impl serde::Serialize) -> Result<Bundle, BundleError> {
    let bytes = serde_json::to_vec(manifest).expect("serializable");
    std::fs::write(folder.join("manifest.json"), bytes).expect("a written manifest");
    Bundle::open(folder)
}

#[test]
fn a_whole_bundle_opens_and_names_its_parts() {
    let (folder, manifest) = bundle();
    let opened = open(folder.path(), &manifest).expect("a whole bundle");
    assert_eq!(opened.manifest(), &manifest);
    let at = |name: &str| folder.path().join(name);
    let head = |name, rows| HeadPart { path: at(name), rows };
    let parts = Parts {
        embedding: at("embedding.safetensors"),
        layers: vec![at("shards/layers_000_002.mlmodelc"), at("shards/layers_002_004.mlmodelc")],
        heads: vec![
            head("shards/lm_head_000_005.mlmodelc", 0..5),
            head("shards/lm_head_005_010.mlmodelc", 5..10),
        ],
        rope: manifest.rope.clone(),
        widths: vec![1, 4],
        block: 4,
        context: 256,
        hidden: 64,
        vocab: 10,
        tokenizer: at("tokenizer.json"),
    };
    assert_eq!(opened.parts().expect("a whole model"), parts);
}

#[test]
fn each_kind_of_damage_is_refused_by_name() {
    type Damage = fn(&Path, &mut Value);
    let cases: &[(&str, Damage)] = &[
        ("tokenizer.json is damaged: its blake3", |root, _| {
            // One bit.
            std::fs::write(root.join("tokenizer.json"), "tokenizer.jsoo").expect("written");
        }),
        ("embedding.safetensors is damaged: it has 9 bytes, not 21", |root, _| {
            std::fs::write(root.join("embedding.safetensors"), "embedding").expect("written");
        }),
        ("embedding.safetensors is damaged: it is not a file", |root, _| {
            std::fs::remove_file(root.join("embedding.safetensors")).expect("removed");
            std::fs::create_dir(root.join("embedding.safetensors")).expect("made");
        }),
        ("shards/lm_head_005_010.mlmodelc/model.mil is missing", |root, _| {
            std::fs::remove_dir_all(root.join("shards/lm_head_005_010.mlmodelc")).expect("removed");
        }),
        (
            "shards/layers_000_002.mlmodelc/weights/weight.bin is damaged: the manifest lists no digest",
            |root, _| {
                let weights = root.join("shards/layers_000_002.mlmodelc/weights");
                std::fs::create_dir(&weights).expect("made");
                std::fs::write(weights.join("weight.bin"), "foreign").expect("written");
            },
        ),
        ("schema 2", |_, manifest| manifest["schema"] = 2.into()),
        ("names no schema", |_, manifest| manifest["schema"] = "1".into()),
        ("unknown field", |_, manifest| manifest["extra"] = 1.into()),
        ("unknown variant", |_, manifest| manifest["shards"][0]["role"] = "vision".into()),
        ("does not stay inside", |_, manifest| {
            manifest["files"]["../data"] = json!({"blake3": "", "size": 0});
        }),
        ("does not stay inside", |_, manifest| {
            manifest["files"]["/etc/passwd"] = json!({"blake3": "", "size": 0});
        }),
        ("names shards/lm_head_000_005 and lists no digest", |_, manifest| {
            manifest["shards"][2]["path"] = "shards/lm_head_000_005".into();
        }),
        ("names embedding.bin and lists no digest", |_, manifest| {
            manifest["embedding"] = "embedding.bin".into();
        }),
    ];
    for (expected, damage) in cases {
        let (folder, manifest) = bundle();
        let mut manifest = serde_json::to_value(manifest).expect("serializable");
        damage(folder.path(), &mut manifest);
        let error = open(folder.path(), &manifest).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_part_of_a_model_is_no_model_and_says_what_to_build() {
    type Change = fn(&mut Manifest);
    let cases: &[(&str, Change)] = &[
        ("the embedding's rows are not in it", |manifest| manifest.embedding = None),
        ("the tokenizer's tokens are not in it", |manifest| manifest.tokenizer = None),
        ("layers 2..4 are not in it", |manifest| {
            manifest.shards.remove(1);
        }),
        ("layers 0..2 are not in it", |manifest| {
            manifest.shards.remove(0);
        }),
        ("vocabulary rows 0..5 are not in it", |manifest| {
            manifest.shards.remove(2);
        }),
        ("vocabulary rows 0..10 are not in it", |manifest| manifest.shards.truncate(2)),
        ("layers 0..4 are not in it", |manifest| manifest.shards.clear()),
    ];
    for (expected, change) in cases {
        let (folder, mut manifest) = bundle();
        change(&mut manifest);
        let opened = open(folder.path(), &manifest).expect("it is sound");
        let error = opened.parts().expect_err(expected);
        assert!(matches!(error, BundleError::Partial { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("without --layers"), "{text}");
    }
}

#[test]
fn a_manifest_that_contradicts_itself_names_no_parts() {
    type Change = fn(&mut Manifest);
    let cases: &[(&str, Change)] = &[
        ("vocabulary rows of shards/lm_head_005_010", |manifest| manifest.shards[3].range = [4, 10]),
        ("vocabulary rows of shards/lm_head_005_010", |manifest| manifest.shards[3].range = [5, 11]),
        ("vocabulary rows of shards/lm_head_005_010", |manifest| manifest.shards[3].range = [5, 5]),
        ("vocabulary rows of shards/lm_head_000_005", |manifest| manifest.shards[2].range = [5, 0]),
        ("layers of shards/layers_000_002", |manifest| manifest.shards.swap(0, 1)),
        ("block of 3 tokens", |manifest| manifest.block = 3),
        ("block of 0 tokens", |manifest| (manifest.block, manifest.widths) = (0, vec![0])),
        ("exceed its context of 3", |manifest| manifest.context = 3),
        ("no vocab", |manifest| manifest.contract["vocab"]["value"] = 0.into()),
        ("no vocab", |manifest| manifest.contract["vocab"]["value"] = (1_u64 << 32).into()),
        ("no hidden", |manifest| manifest.contract["hidden"] = 64.into()),
        ("no hidden", |manifest| manifest.contract = json!([])),
    ];
    for (expected, change) in cases {
        let (folder, mut manifest) = bundle();
        change(&mut manifest);
        let opened = open(folder.path(), &manifest).expect("its files are sound");
        let error = opened.parts().expect_err(expected);
        assert!(matches!(error, BundleError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_folder_without_a_manifest_is_not_a_bundle() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(Bundle::open(folder.path()), Err(BundleError::NotABundle { .. })));
}
