//! Rows against a fixture of 60-digit arithmetic (`fixture.py`, beside this file), and what a bad spec is told.

use half::f16;
use serde::Deserialize;

use super::{Rope, RopeError, RopeSpec};

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    spec: RopeSpec,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    position: usize,
    cos: Vec<u16>,
    sin: Vec<u16>,
}

#[test]
fn every_row_equals_the_exact_value_rounded_once() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixture.json")).unwrap();
    let mut compared = 0;
    for case in fixture.cases {
        let rope = Rope::new(&case.spec).unwrap();
        for row in case.rows {
            let (cos, sin): (Vec<u16>, Vec<u16>) =
                rope.row(row.position).map(|(cos, sin)| (cos.to_bits(), sin.to_bits())).unzip();
            assert_eq!(cos, row.cos, "cos of {}, position {}", case.name, row.position);
            assert_eq!(sin, row.sin, "sin of {}, position {}", case.name, row.position);
            compared += 2 * cos.len();
        }
    }
    assert_eq!(compared, 1094, "the fixture is not the one this test was written for");
}

fn phi3() -> RopeSpec {
    RopeSpec { rope_dim: 96, base: 10_000.0, factors: Some(vec![1.0; 48]), attn_factor: 1.190_238 }
}

#[test]
fn the_first_row_is_the_attention_factor_and_zero() {
    let rope = Rope::new(&phi3()).unwrap();
    assert_eq!(rope.half_dim(), 48);
    assert!(rope.row(0).all(|pair| pair == (f16::from_f32(1.190_238), f16::ZERO)));
}

#[test]
fn a_factor_divides_its_own_frequency_only() {
    let mut spec = phi3();
    spec.attn_factor = 1.0;
    spec.factors = None;
    let plain: Vec<_> = Rope::new(&spec).unwrap().row(3).collect();
    let mut factors = vec![1.0; 48];
    factors[5] = 3.0;
    spec.factors = Some(factors);
    let scaled: Vec<_> = Rope::new(&spec).unwrap().row(3).collect();
    for i in 0..48 {
        assert_eq!(plain[i] == scaled[i], i != 5, "entry {i}");
    }
}

#[test]
fn a_bad_spec_is_refused_by_what_is_wrong_with_it() {
    let with = |change: fn(&mut RopeSpec)| {
        let mut spec = phi3();
        change(&mut spec);
        Rope::new(&spec).unwrap_err()
    };
    let table: [(RopeError, &str); 9] = [
        (with(|spec| spec.rope_dim = 0), "rotary width 0"),
        (with(|spec| spec.rope_dim = 95), "rotary width 95"),
        (with(|spec| (spec.rope_dim, spec.factors) = (1 << 60, None)), "rotary width 1152921504606846976"),
        (with(|spec| spec.rope_dim = 128), "48 rotary factors for a rotary width of 128, which needs 64"),
        (with(|spec| spec.base = 0.0), "rotary base 0"),
        (with(|spec| spec.base = f32::NAN), "rotary base NaN"),
        (with(|spec| spec.factors = Some(vec![f32::INFINITY; 48])), "rotary factor 0 is inf"),
        (with(|spec| spec.attn_factor = 1e6), "rotary attention factor 1000000"),
        (with(|spec| spec.attn_factor = f32::NAN), "rotary attention factor NaN"),
    ];
    for (error, text) in table {
        assert!(error.to_string().starts_with(text), "{error}");
    }
}

#[test]
fn a_spec_survives_json_to_the_bit() {
    let mut spec = phi3();
    spec.factors = Some((0..48).map(|i| 1.0 + (i as f32).sqrt() / 3.0).collect());
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<RopeSpec>(&text).unwrap(), spec);
}
