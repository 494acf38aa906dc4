//! The integer sums of every kernel that multiplies bytes, against 64-bit sums, on inputs that leave no room for luck;
//! and faults, to see that these inputs show them.

use half::f16;

use super::digits::{Digits, Group, Lowest};
use super::*;

/// Some columns and some rows, and what their products sum to.
struct Case {
    name: String,
    count: usize,
    weights: Vec<i8>,
    digits: Digits,
    /// The same in groups of two.
    #[cfg(target_arch = "x86_64")]
    twos: Digits,
    #[cfg(target_arch = "aarch64")]
    pairs: neon::Pairs,
    expected: Vec<Sums>,
}

/// A kernel, called with a case and the number of a group.
struct Kernel {
    name: &'static str,
    multiply: fn(&Case, usize, &[i8], &mut [Sums]),
}

/// The kernels that this machine can run. Those that machines in use today lack stand in the list under other names.
fn kernels() -> Vec<Kernel> {
    #[allow(unused_mut)]
    let mut kernels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            kernels.push(Kernel {
                name: "AVX-VNNI, spelled out in AVX2",
                multiply: |case, group, weights, sums| {
                    avx_vnni::spelled_out::multiply(case.digits.group(group), weights, sums);
                },
            });
        }
        if is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vnni") {
            kernels.push(Kernel {
                name: "AVX-VNNI, as AVX-512 encodes it",
                multiply: |case, group, weights, sums| {
                    avx_vnni::evex::multiply(case.digits.group(group), weights, sums);
                },
            });
        }
    }
    for isa in Isa::available() {
        let multiply: fn(&Case, usize, &[i8], &mut [Sums]) = match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => |case, group, weights, sums| {
                avx_vnni::multiply(case.digits.group(group), weights, sums);
            },
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => |case, group, weights, sums| {
                let rows = sums.len();
                let mut strip = [[0; GROUP]; STRIP];
                strip[..rows].copy_from_slice(sums);
                avx512::multiply(&case.twos, group, weights, std::slice::from_mut(&mut strip));
                sums.copy_from_slice(&strip[..rows]);
            },
            #[cfg(target_arch = "aarch64")]
            Level::Neon => |case, group, weights, sums| {
                neon::multiply(case.digits.group(group), weights, sums);
            },
            #[cfg(target_arch = "aarch64")]
            Level::NeonI8mm => |case, group, weights, sums| {
                neon::multiply_i8mm((&case.digits, &case.pairs), group, weights, sums);
            },
            _ => continue,
        };
        kernels.push(Kernel { name: isa.name(), multiply });
    }
    kernels
}

/// A name, and elements by their place in a column; or weights by theirs in a matrix.
type Pattern<T> = (&'static str, fn(usize) -> T);

/// What columns may hold, by element.
const COLUMNS: [Pattern<u16>; 9] = [
    ("every exponent", |k| ((k * 1021) % 0x7c00) as u16 | sign(k)),
    ("subnormals", |k| (k * 37 % 0x400) as u16 | sign(k)),
    ("the largest", |k| 0x7bff | sign(k / 3)),
    ("the largest, all positive", |_| 0x7bff),
    (
        "an outlier in every hundred",
        |k| if k % 100 == 99 { 0x7bff } else { 0x2c00 + (k % 0x400) as u16 } | sign(k),
    ),
    ("ones and zeros", |k| if k % 3 == 0 { 0x3c00 } else { 0 }),
    ("a low digit in few blocks", |k| if k % 192 == 191 { 0x0401 } else { 0x7800 + (k % 0x100) as u16 }),
    ("digits of 127 and -128", |k| [0x77ff, 0xf7ff, 0x5bf8, 0x0bf0][k % 4]),
    ("zeros", |_| 0),
];

/// What weights may be, by their place in the matrix.
const WEIGHTS: [Pattern<i8>; 4] = [
    ("any", |i| (i.wrapping_mul(0x9e37_79b9) >> 16) as i8),
    ("-128", |_| -128),
    ("-128 and 127", |i| if i % 2 == 0 { -128 } else { 127 }),
    ("one in three", |i| i8::from(i % 3 == 0)),
];

fn sign(k: usize) -> u16 {
    if k.is_multiple_of(2) { 0 } else { 0x8000 }
}

impl Case {
    fn new(
        (length, rows, count): (usize, usize, usize),
        columns: impl Fn(usize) -> Pattern<u16>,
        (weights_name, weight): Pattern<i8>,
    ) -> Self {
        let weights: Vec<i8> = (0..rows * length).map(weight).collect();
        let mut digits = Digits::in_groups_of(GROUP);
        digits.start(count, length);
        #[cfg(target_arch = "x86_64")]
        let mut twos = Digits::in_groups_of(avx512::PAIR);
        #[cfg(target_arch = "x86_64")]
        twos.start(avx512::padded(count), length);
        #[cfg(target_arch = "aarch64")]
        let mut pairs = neon::Pairs::default();
        #[cfg(target_arch = "aarch64")]
        pairs.start(count, length);
        let mut expected = vec![[0; GROUP]; rows * count.div_ceil(GROUP)];
        let mut name = format!("{rows} rows of {length}, weights {weights_name}, {count} columns:");
        for column in 0..count {
            let (column_name, element) = columns(column);
            name.extend([" ", column_name, ","]);
            let x: Vec<f16> = (0..length).map(|k| f16::from_bits(element(k))).collect();
            let integers: Vec<i32> = match Scaling::of(x.iter().copied()) {
                Scaling::Exponent(exponent) => {
                    x.iter().map(|x| fixed::quantize(x.to_f32(), exponent)).collect()
                }
                Scaling::Zero | Scaling::NonFinite => vec![0; length],
            };
            for (row, weights) in weights.chunks_exact(length).enumerate() {
                let products = weights.iter().zip(&integers).map(|(&w, &q)| i64::from(w) * i64::from(q));
                expected[column / GROUP * rows + row][column % GROUP] = products.sum();
            }
            digits.store(Isa::best(), column, &integers);
            #[cfg(target_arch = "x86_64")]
            twos.store(Isa::best(), column, &integers);
            #[cfg(target_arch = "aarch64")]
            pairs.store(column, &digits);
        }
        #[cfg(target_arch = "aarch64")]
        return Self { name, count, weights, digits, pairs, expected };
        #[cfg(not(target_arch = "aarch64"))]
        Self { name, count, weights, digits, twos, expected }
    }

    /// Whether `multiply` gives what is expected, added to what was there before.
    fn holds(&self, multiply: impl Fn(&Case, usize, &mut [Sums])) -> bool {
        let groups = self.count.div_ceil(GROUP);
        self.expected.chunks_exact(self.expected.len() / groups).enumerate().all(|(group, expected)| {
            let columns = (self.count - group * GROUP).min(GROUP);
            let mut sums = vec![[3; GROUP]; expected.len()];
            multiply(self, group, &mut sums);
            let same = |(sums, expected): (&Sums, &Sums)| {
                (0..columns).all(|column| sums[column] == expected[column] + 3)
            };
            sums.iter().zip(expected).all(same)
        })
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, length) in [1, 15, 16, 17, 63, 64, 65, 127, 129, 200, 257].into_iter().enumerate() {
        for count in 1..=9 {
            // Every kind of column meets every number of columns, and every kind of weights every length.
            for (offset, weights) in WEIGHTS.into_iter().enumerate() {
                let columns = |column: usize| COLUMNS[(column + index + offset + 2 * count) % COLUMNS.len()];
                cases.push(Case::new((length, 1 + (index + count) % 9, count), columns, weights));
            }
        }
    }
    // Longer than the digits that a cache holds, and not in equal parts; of few low digits, and of many.
    for count in 1..=4 {
        for column in [0, 6] {
            cases.push(Case::new((256 * 64 + 65, 5, count), |_| COLUMNS[column], WEIGHTS[0]));
        }
    }
    cases
}

#[test]
fn sums_are_exact() {
    for case in cases() {
        for kernel in kernels() {
            let exact = case.holds(|case, group, sums| (kernel.multiply)(case, group, &case.weights, sums));
            assert!(exact, "{}: {}", kernel.name, case.name);
        }
    }
}

#[test]
fn the_longest_column_does_not_overflow() {
    for (column, weights) in [(3, 1), (2, 1), (7, 1), (7, 2)] {
        let case = Case::new((fixed::MAX_COLUMN, 4, 2), |_| COLUMNS[column], WEIGHTS[weights]);
        for kernel in kernels() {
            let exact = case.holds(|case, group, sums| (kernel.multiply)(case, group, &case.weights, sums));
            assert!(exact, "{}: {}", kernel.name, case.name);
        }
    }
}

/// Each fault is one that some kernel could have: it must show in some case.
#[test]
fn faults_show() {
    let cases = cases();
    let shows = |fault: &str, faulty: &dyn Fn(&Case, usize, &mut [Sums])| {
        assert!(cases.iter().any(|case| !case.holds(faulty)), "nothing shows that {fault}");
    };
    for Kernel { name, multiply } in kernels() {
        let with_weights = |change: fn(usize, i8) -> i8| {
            move |case: &Case, group: usize, sums: &mut [Sums]| {
                let weights: Vec<i8> = case.weights.iter().enumerate().map(|(i, &w)| change(i, w)).collect();
                multiply(case, group, &weights, sums);
            }
        };
        shows(&format!("{name}: -128 is taken for -127"), &with_weights(|_, w| w.max(-127)));
        shows(
            &format!("{name}: one weight is off by one"),
            &with_weights(|i, w| if i == 0 { w ^ 1 } else { w }),
        );
        shows(&format!("{name}: the last element of a row is left out"), &|case, group, sums| {
            let mut weights = case.weights.clone();
            let length = weights.len() / sums.len();
            weights.iter_mut().skip(length - 1).step_by(length).for_each(|w| *w = 0);
            multiply(case, group, &weights, sums);
        });
        shows(&format!("{name}: a row is taken for its neighbour"), &|case, group, sums| {
            multiply(case, group, &case.weights, sums);
            let last = sums.len() - 1;
            sums[last] = sums[last.saturating_sub(1)];
        });
        shows(&format!("{name}: a column is taken for its neighbour"), &|case, group, sums| {
            multiply(case, group, &case.weights, sums);
            for sums in sums.iter_mut() {
                sums[1] = sums[0];
            }
        });
    }
}

#[test]
fn low_digits_that_are_left_out_show() {
    let without = |case: &Case, group: usize, sums: &mut [Sums]| {
        let group = case.digits.group(group);
        let lowest: Vec<Lowest> = group
            .lowest
            .iter()
            .map(|lowest| Lowest { blocks: lowest.blocks.clone(), used: Vec::new() })
            .collect();
        by_digits(Group { lowest: &lowest, ..group }, &case.weights, sums);
    };
    let cases = cases();
    assert!(cases.iter().any(|case| !case.holds(without)));
    let with = |case: &Case, group: usize, sums: &mut [Sums]| {
        by_digits(case.digits.group(group), &case.weights, sums);
    };
    assert!(cases.iter().all(|case| case.holds(with)));
}

/// What a kernel does with digits, one at a time.
fn by_digits(group: Group<'_>, weights: &[i8], sums: &mut [Sums]) {
    let columns = group.lowest.len();
    for (row, sums) in weights.chunks_exact(group.length).zip(sums) {
        for (column, lowest) in group.lowest.iter().enumerate() {
            for (k, &weight) in row.iter().enumerate() {
                let (block, k) = (k / digits::BLOCK, k % digits::BLOCK);
                let dense = &group.dense[block * columns + column];
                let low = if lowest.used.contains(&(block as u32)) { lowest.blocks[block].0[k] } else { 0 };
                let digits = [low, dense[0].0[k], dense[1].0[k], dense[2].0[k]].map(i64::from);
                let value = digits[0] + (digits[1] << 8) + (digits[2] << 16) + (digits[3] << 24);
                sums[column] += value * i64::from(weight);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn sums_that_saturate_show() {
    if is_x86_feature_detected!("avx2") {
        let saturating = |case: &Case, group: usize, sums: &mut [Sums]| {
            avx_vnni::saturating::multiply(case.digits.group(group), &case.weights, sums);
        };
        assert!(cases().iter().any(|case| !case.holds(saturating)));
    }
}
