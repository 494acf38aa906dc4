//! What was built: the numbers of the model, the options, the files, and where they come from.

use anepipe_pipeline::contract::{Contract, Head, Sourced};
use anepipe_runtime::bundle::manifest::{Manifest, Provenance};
use maud::{Markup, html};

use super::Evidence;
use super::evidence::Shard;
use super::figure::{self, bytes, count};
use super::section::table;

pub(super) fn section(evidence: &Evidence) -> Markup {
    html! {
        (options(&evidence.manifest))
        h3 { "Shards" }
        (shards(evidence))
        h3 { "Model" }
        p.note { "Every number has the place in the model file that it came from. Nothing has a silent default." }
        (model(&evidence.contract))
        h3 { "Provenance" }
        (provenance(&evidence.manifest.provenance))
    }
}

fn options(manifest: &Manifest) -> Markup {
    let widths: Vec<String> = manifest.widths.iter().map(u32::to_string).collect();
    let mut rows = vec![
        ("Weights", manifest.quantization.clone()),
        ("Block", format!("{}: tokens a pass verifies", manifest.block)),
        ("Widths", format!("{}: tokens a pass can take", figure::list(&widths))),
        ("Context", format!("{} positions", count(manifest.context))),
        ("Style of the graphs", manifest.style.clone()),
    ];
    let size = |path: &str| manifest.files.get(path).map_or(0, |file| file.size);
    for (what, path) in [("Embedding", &manifest.embedding), ("Tokenizer", &manifest.tokenizer)] {
        let words = path
            .as_ref()
            .map_or("not in the bundle".to_owned(), |path| format!("{path}, {}", bytes(size(path))));
        rows.push((what, words));
    }
    let all = manifest.files.values().fold(0_u64, |sum, file| sum.saturating_add(file.size));
    rows.push(("All files", format!("{}, {}", count(manifest.files.len() as u64), bytes(all))));
    table(&html! {
        tbody {
            @for (what, words) in rows {
                tr { th scope="row" { (what) } td.words { (words) } }
            }
        }
    })
}

fn shards(evidence: &Evidence) -> Markup {
    table(&html! {
        thead { tr { th { "Shard" } th.figure { "States" } th.figure { "Size" } th { "Path" } th { "Digest" } } }
        tbody {
            @for Shard { name, entry, bytes: size, .. } in &evidence.shards {
                tr {
                    th scope="row" { (name) }
                    td.figure { (count(entry.states.len() as u64)) }
                    td.figure { (bytes(*size)) }
                    td { code { (entry.path) } }
                    td { code title=(entry.digest) { (short(&entry.digest)) } }
                }
            }
        }
    })
}

/// The first digits of a digest. The whole is in the manifest, and no person compares more.
fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn model(contract: &Contract) -> Markup {
    table(&html! {
        thead { tr { th { "Number" } th.figure { "Value" } th { "From" } } }
        tbody {
            @for Number { what, value, from } in numbers(contract) {
                tr {
                    th scope="row" { (what) }
                    td.figure { (value) }
                    td.words { code { (from) } }
                }
            }
        }
    })
}

/// A number of the model.
struct Number {
    what: &'static str,
    value: String,
    from: String,
}

fn number<T>(what: &'static str, sourced: &Sourced<T>, text: impl Fn(&T) -> String) -> Number {
    Number { what, value: text(&sourced.value), from: sourced.source.clone() }
}

fn numbers(contract: &Contract) -> Vec<Number> {
    let whole = |number: &u32| count(*number);
    let maybe = |number: &Option<u32>| number.map_or(none(), count);
    let id = |id: &Option<u32>| id.map_or(none(), |id| id.to_string());
    let tokenizer = &contract.tokenizer;
    vec![
        number("Architecture", &contract.architecture, |it| it.name().to_owned()),
        number("Layers", &contract.layers, whole),
        number("Width d", &contract.hidden, whole),
        number("Heads", &contract.heads, whole),
        number("KV heads", &contract.kv_heads, whole),
        number("Width of a head", &contract.head_dim, whole),
        number("Feed-forward width", &contract.ffn, whole),
        number("Vocabulary", &contract.vocab, whole),
        number("Head", &contract.head, |head| match head {
            Head::Tied => "tied".to_owned(),
            Head::Separate => "separate".to_owned(),
        }),
        number("ε of the norms", &contract.norm_eps, f32::to_string),
        number("Rotated dims", &contract.rope_dim, whole),
        number("Rotary base", &contract.rope_base, f32::to_string),
        number("Rotary factors", &contract.rope_factors, |factors| factors.as_deref().map_or(none(), range)),
        number("Factor of cos and sin", &contract.attn_factor, f32::to_string),
        number("Context of the model", &contract.context_length, whole),
        number("Context before long factors", &contract.original_context, maybe),
        number("Sliding window", &contract.sliding_window, maybe),
        number("Tokenizer", &tokenizer.kind, String::clone),
        number("Splits text as", &tokenizer.pre, |pre| {
            pre.clone().unwrap_or_else(|| "as its kind does".to_owned())
        }),
        number("Tokens", &tokenizer.tokens, maybe),
        number("Token that begins a text", &tokenizer.bos, id),
        number("Token that ends a text", &tokenizer.eos, id),
        number("A text begins with it", &tokenizer.add_bos, |add| match add {
            Some(true) => "yes".to_owned(),
            Some(false) => "no".to_owned(),
            None => "as its kind does".to_owned(),
        }),
    ]
}

fn none() -> String {
    "none".to_owned()
}

/// How many factors there are, and from where to where they go.
fn range(factors: &[f32]) -> String {
    let least = factors.iter().copied().fold(f32::INFINITY, f32::min);
    let most = factors.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    match factors.len() {
        0 => none(),
        number => format!("{number}, {least} to {most}"),
    }
}

fn provenance(provenance: &Provenance) -> Markup {
    table(&html! {
        tbody {
            tr {
                th scope="row" { "Weights that were read" }
                td.words { "blake3 " code.digest { (provenance.source) } }
            }
            @for (tool, version) in &provenance.versions {
                tr { th scope="row" { (tool) } td { (version) } }
            }
        }
    })
}
