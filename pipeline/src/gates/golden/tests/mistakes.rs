//! Mistakes that a build can make and still be consistent with itself.

use crate::gates::golden::edited::{Edited, Weights};

/// A mistake, as a change of the model that computes what the mistake would.
pub(super) type Mistake = (&'static str, fn(Edited) -> Edited);

const SHORT: &str = "rope_factors_short.weight";
const LONG: &str = "rope_factors_long.weight";

/// Those of a model with long and short factors and a rotary width of less than the head: the demo.
pub(super) const PHI3: &[Mistake] = &[
    ("no attn_factor", |m| m.with_key("phi3.rope.scaling.attn_factor", 1.0_f32)),
    ("no factors", |m| factors(m, |all| all.fill(1.0))),
    ("neither", |m| factors(m.with_key("phi3.rope.scaling.attn_factor", 1.0_f32), |all| all.fill(1.0))),
    ("long factors", |m| {
        let long = m.tensor(LONG).unwrap().values.clone();
        factors(m, |all| all.copy_from_slice(&long))
    }),
    ("factors reversed", |m| factors(m, <[f32]>::reverse)),
    ("whole head rotated", |m| {
        let ones = vec![1.0; 16];
        let m = m.with_key("phi3.rope.dimension_count", 32_u32);
        m.with_tensor(SHORT, &[16], ones.clone()).with_tensor(LONG, &[16], ones)
    }),
    ("pairs 2i, 2i+1", |m| repair(m, |i, half| i / 2 + i % 2 * half)),
    ("base 500000", |m| m.with_key("phi3.rope.freq_base", 500_000.0_f32)),
    ("heads of other groups", regroup),
    ("gate and up swapped", |m| {
        m.each(|tensor| {
            if tensor.name.ends_with("ffn_up.weight") {
                swap_halves(tensor);
            }
        })
    }),
];

/// Those of a plain model; `stories260K` is there as phi3 and as llama.
pub(super) const PLAIN: &[Mistake] = &[
    ("half the head rotated", |m| with_own_key(m, "rope.dimension_count", 4_u32)),
    ("other pairs", |m| match m.tensor("blk.0.attn_q.weight") {
        None => repair(m, |i, half| i / 2 + i % 2 * half),
        Some(_) => repair(m, |i, half| i % half * 2 + i / half),
    }),
    ("base 500000", |m| with_own_key(m, "rope.freq_base", 500_000.0_f32)),
    ("heads of other groups", regroup),
];

fn prefix(model: &Edited) -> &'static str {
    if model.tensor("blk.0.attn_q.weight").is_some() { "llama" } else { "phi3" }
}

fn with_own_key(model: Edited, key: &str, value: impl Into<anepipe_testkit::Value>) -> Edited {
    let key = format!("{}.{key}", prefix(&model));
    model.with_key(&key, value)
}

fn factors(model: Edited, change: impl FnOnce(&mut [f32])) -> Edited {
    let mut values = model.tensor(SHORT).unwrap().values.clone();
    change(&mut values);
    model.with_tensor(SHORT, &[values.len() as u64], values)
}

/// Query and key rows put where another rule of pairs would look for them: row `i` of the rotary dims comes from row
/// `from(i, dims / 2)`. Queries and keys are permuted alike, so only the turning differs.
fn repair(model: Edited, from: fn(usize, usize) -> usize) -> Edited {
    let number = |key: &str| model.u32(&format!("{}.{key}", prefix(&model))) as usize;
    let (heads, kv_heads) = (number("attention.head_count"), number("attention.head_count_kv"));
    let (dim, head_dim) = (number("rope.dimension_count"), number("embedding_length") / heads);
    model.each(move |tensor| {
        let heads = match tensor.name.rsplit('.').nth(1) {
            Some("attn_qkv") => heads + kv_heads,
            Some("attn_q") => heads,
            Some("attn_k") => kv_heads,
            _ => return,
        };
        let row = tensor.dims[0] as usize;
        for head in tensor.values.chunks_exact_mut(head_dim * row).take(heads) {
            let old = head.to_vec();
            for i in 0..dim {
                head[i * row..][..row].copy_from_slice(&old[from(i, dim / 2) * row..][..row]);
            }
        }
    })
}

/// Query heads dealt to KV heads in turn and not in runs: head `h` reads KV head `h mod kv_heads`.
fn regroup(model: Edited) -> Edited {
    let number = |key: &str| model.u32(&format!("{}.{key}", prefix(&model))) as usize;
    let (heads, kv_heads) = (number("attention.head_count"), number("attention.head_count_kv"));
    let head_dim = number("embedding_length") / heads;
    let a_group = heads / kv_heads;
    // Slot h, which reads KV head h / a_group, takes a query head of that remainder.
    let order: Vec<usize> = (0..heads).map(|h| h / a_group + h % a_group * kv_heads).collect();
    model.each(move |tensor| {
        let row = tensor.dims[0] as usize;
        let head = head_dim * row;
        match tensor.name.rsplit('.').nth(1) {
            Some("attn_qkv" | "attn_q") => {
                let old = tensor.values.clone();
                for (to, from) in order.iter().enumerate() {
                    tensor.values[to * head..][..head].copy_from_slice(&old[from * head..][..head]);
                }
            }
            // What a head gives goes where it always went.
            Some("attn_output") => {
                for weights in tensor.values.chunks_exact_mut(row) {
                    let old = weights.to_vec();
                    for (to, from) in order.iter().enumerate() {
                        weights[to * head_dim..][..head_dim]
                            .copy_from_slice(&old[from * head_dim..][..head_dim]);
                    }
                }
            }
            _ => {}
        }
    })
}

fn swap_halves(tensor: &mut Weights) {
    let half = tensor.values.len() / 2;
    tensor.values.rotate_left(half);
}
