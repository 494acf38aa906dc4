//! What the names of a program's operations say: read off those that the graph stage gives.
//!
//! In the style `stateful` what belongs to a layer is called `l<slot>_…`, slots counting the layers of a shard from 0.

/// `l12_qkv` is `qkv` of slot 12. Nothing if the name does not speak of a layer.
pub fn in_layer(operation: &str) -> Option<(u32, &str)> {
    let (slot, name) = operation.strip_prefix('l')?.split_once('_')?;
    let digits = !slot.is_empty() && slot.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| slot.parse().ok()).flatten().map(|slot| (slot, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_speaks_of_a_layer_gives_its_slot_and_the_rest() {
        for (operation, expected) in [
            ("l12_qkv", Some((12, "qkv"))),
            ("l0_attention_norm_abs", Some((0, "attention_norm_abs"))),
            ("logits", None),
            ("l_qkv", None),
            ("l1", None),
            ("lx_qkv", None),
            ("l99999999999_qkv", None),
            ("hidden_out", None),
        ] {
            assert_eq!(in_layer(operation), expected, "{operation}");
        }
    }
}
