use proptest::prelude::*;

use super::*;
use crate::portable::arith::lanes;
use crate::portable::fixture::random::Random;
use crate::portable::kernel::elementwise::{Expression, Reading, Term};

/// The constants that shards have.
fn constants(columns: usize) -> Norm {
    Norm {
        columns,
        peak: f16::from_f32(4.0),
        floor: f16::from_f32(2f32.powi(-7)),
        root_epsilon: f16::from_f32(1e-5f32.sqrt()),
        epsilon: 0.0,
    }
}

/// The steps of a norm one after the other, each stored.
struct Chain {
    isa: Isa,
    columns: usize,
    channels: usize,
}

impl Chain {
    fn elementwise(&self, operator: Term, operands: &[(&[f16], [usize; 2])], to: [usize; 2]) -> Vec<f16> {
        let readings = operands.iter().map(|(_, from)| Reading::of(from, &to)).collect();
        let terms = operands.iter().map(|_| Term::Operand).chain([operator]).collect();
        let expression = Expression::new(terms, readings).unwrap();
        let mut out = vec![f16::ONE; to[0] * to[1]];
        expression.run(self.isa, |index| operands[index].0, 0, &mut out);
        out
    }

    fn wide(&self) -> [usize; 2] {
        [self.channels, self.columns]
    }

    fn row(&self) -> [usize; 2] {
        [1, self.columns]
    }

    /// What `combine` makes of each column.
    fn reduce(&self, x: &[f16], combine: impl Fn(Vec<f32>) -> f32) -> Vec<f16> {
        let column = |at| x.iter().skip(at).step_by(self.columns).map(|x| x.to_f32()).collect();
        (0..self.columns).map(|at| round(combine(column(at)))).collect()
    }

    fn add(&self, x: &[f16], y: &[f16]) -> Vec<f16> {
        self.elementwise(Term::Binary(Binary::Add), &[(x, self.wide()), (y, self.wide())], self.wide())
    }

    fn norm(&self, norm: &Norm, x: &[f16], weight: &[f16]) -> Vec<f16> {
        let (wide, row, one) = (self.wide(), self.row(), [1, 1]);
        let of = |operator, x: (&[f16], [usize; 2]), y: (&[f16], [usize; 2]), to| {
            self.elementwise(Term::Binary(operator), &[x, y], to)
        };
        let magnitudes = self.elementwise(Term::Unary(Unary::Abs), &[(x, wide)], wide);
        let maximum = |largest: f32, x: f32| Binary::Maximum.apply(largest, x);
        let largest = self.reduce(&magnitudes, |column| column.into_iter().fold(f32::NEG_INFINITY, maximum));
        let floored = of(Binary::Maximum, (&largest, row), (&[norm.floor], one), row);
        let factor = of(Binary::Div, (&[norm.peak], one), (&floored, row), row);
        let scaled = of(Binary::Mul, (x, wide), (&factor, row), wide);
        let root = of(Binary::Mul, (&factor, row), (&[norm.root_epsilon], one), row);
        let squares = of(Binary::Mul, (&scaled, wide), (&scaled, wide), wide);
        let mean = self.reduce(&squares, |column| lanes::sum(column) / self.channels as f32);
        let added = of(Binary::Mul, (&root, row), (&root, row), row);
        let total = of(Binary::Add, (&mean, row), (&added, row), row);
        let rsqrt = Term::Unary(Unary::Rsqrt { epsilon: norm.epsilon });
        let inverse = self.elementwise(rsqrt, &[(&total, row)], row);
        let unit = of(Binary::Mul, (&scaled, wide), (&inverse, row), wide);
        of(Binary::Mul, (&unit, wide), (weight, [self.channels, 1]), wide)
    }
}

fn bits(values: &[f16]) -> Vec<u16> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Compares norm and chain, with and without an addition, on every instruction set.
fn compare(norm: &Norm, x: &[f16], y: &[f16], weight: &[f16], scratch: &mut Scratch) {
    for isa in Isa::available() {
        let chain = Chain { isa, columns: norm.columns, channels: weight.len() };
        let mut out = vec![f16::ONE; x.len()];
        norm.run(isa, x, weight, &mut out, scratch);
        assert_eq!(bits(&out), bits(&chain.norm(norm, x, weight)), "{isa:?} {norm:?} {}", weight.len());

        let expected = chain.add(x, y);
        let (mut out, mut sum) = (vec![f16::ONE; x.len()], vec![f16::ONE; x.len()]);
        norm.add_and_run(isa, (x, y, &mut sum), weight, &mut out, scratch);
        assert_eq!(bits(&sum), bits(&expected), "{isa:?} {norm:?} {}", weight.len());
        let expected = chain.norm(norm, &expected, weight);
        assert_eq!(bits(&out), bits(&expected), "{isa:?} {norm:?} {}", weight.len());
    }
}

#[test]
fn every_extent_gives_the_bits_of_the_single_steps() {
    let mut random = Random(5);
    // One memory for all: nothing of an earlier norm may be left in a later one.
    let mut scratch = Scratch::with_capacity(33);
    for columns in [32, 1, 2, 3, 4, 5, 6, 7, 8, 33] {
        for channels in [1, 2, 15, 16, 17, 63, 100, 128, 1000, 1024, 3072] {
            let mut halves =
                |count, scale: f32| random.halves(count, |random| f16::from_f32(scale * random.normal()));
            let (x, y) = (halves(channels * columns, 3.0), halves(channels * columns, 0.3));
            let weight = halves(channels, 1.0);
            compare(&constants(columns), &x, &y, &weight, &mut scratch);
        }
    }
}

/// Columns of one kind each, so that one column's infinity or NaN is seen to stay there.
#[test]
fn columns_of_extreme_numbers_give_the_bits_of_the_single_steps() {
    let number = |bits: u16| move |_: &mut Random| f16::from_bits(bits);
    let mut random = Random(6);
    for channels in [5, 16, 40, 700] {
        let mut columns: Vec<Vec<f16>> = Vec::new();
        for bits in [0, 0x8000, 1, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e01, 0xfe00] {
            columns.push(random.halves(channels, number(bits)));
            // One such number among ordinary ones.
            let mut column = random.halves(channels, |random| f16::from_f32(random.normal()));
            column[channels / 2] = f16::from_bits(bits);
            columns.push(column);
        }
        columns.push(random.halves(channels, |random| f16::from_f32(65504.0 * random.unit())));
        columns.push(random.halves(channels, |random| f16::from_bits(random.bits() as u16 & 0x83ff)));
        columns.push(random.halves(channels, |random| f16::from_f32(1e-6 * random.normal())));
        let weight = random.halves(channels, |random| f16::from_f32(random.normal()));
        let mut scratch = Scratch::with_capacity(columns.len());
        let y = random.halves(channels * columns.len(), Random::nasty);
        for column in &columns {
            compare(&constants(1), column, &y[..channels], &weight, &mut scratch);
        }
        let together: Vec<f16> =
            (0..channels).flat_map(|channel| columns.iter().map(move |column| column[channel])).collect();
        compare(&constants(columns.len()), &together, &y, &weight, &mut scratch);
    }
}

proptest! {
    #[test]
    fn any_numbers_and_constants_give_the_bits_of_the_single_steps(
        seed in any::<u64>(),
        columns in 1usize..10,
        channels in 1usize..200,
        wild in 0u8..3,
        numbers in prop::array::uniform3(any::<u16>()),
        epsilon in prop_oneof![Just(0.0), Just(1e-12), 0f32..1.0],
    ) {
        let mut random = Random(seed);
        let mut halves = |count| {
            random.halves(count, |random| match wild {
                0 => f16::from_f32(random.normal()),
                1 => random.any_half(),
                _ if random.below(40) == 0 => random.nasty(),
                _ => f16::from_f32(random.normal()),
            })
        };
        let (x, y, weight) = (halves(channels * columns), halves(channels * columns), halves(channels));
        let [peak, floor, root_epsilon] = numbers.map(f16::from_bits);
        let any = Norm { columns, peak, floor, root_epsilon, epsilon };
        let norm = if wild == 0 { constants(columns) } else { any };
        compare(&norm, &x, &y, &weight, &mut Scratch::with_capacity(columns));
    }
}
