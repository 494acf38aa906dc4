use std::path::Path;
use std::sync::Arc;

use anepipe_mil::modelc::ModelC;

use crate::device::Device;
use crate::portable::fixture::layer::Shard;
use crate::portable::fixture::random::Random;
use crate::portable::fixture::{Model, Var, half, ints};
use crate::portable::graph::lower;
use crate::portable::plan::Plan;
use crate::portable::plan::step::Step;
use crate::portable::plan::tests::SMALL;
use crate::portable::{Executor, PortableDevice};

const CHANNELS: usize = 37;

/// How a program differs from one in which `x + y` is normed and is a result too.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Twist {
    None,
    /// Factors and terms the other way round.
    Swapped,
    /// Squares are an operation of their own.
    Square,
    /// `x` is normed.
    NoSum,
    /// `y` has one column for all.
    BroadcastSum,
    /// Another operation reads the sum before the norm is done.
    SumSeenBefore,
    /// Another operation reads the sum behind the norm.
    SumSeenAfter,
    /// A second norm of the same sum.
    Twice,
    /// The norm of the norm.
    Again,
    /// The norm is multiplied with what is normed.
    SumAsWeight,
    /// One weight for each column.
    ColumnWeight,
    /// The factor is a result.
    FactorSeen,
    /// Another operation reads what is scaled.
    ScaledSeen,
    /// Magnitudes are added up in place of looking for the largest.
    NoPeak,
    /// The factor is multiplied with a weight for each column in place of one number.
    NoNumber,
}

struct Program {
    model: Model,
    columns: usize,
    twist: Twist,
    outputs: Vec<Var>,
}

impl Program {
    fn wide(&mut self, operation: &str, arguments: &str) -> Var {
        self.model.op(&[1, CHANNELS, self.columns, 1], operation, arguments)
    }

    fn row(&mut self, operation: &str, arguments: &str) -> Var {
        self.model.op(&[1, 1, self.columns, 1], operation, arguments)
    }

    fn pair(&self, x: &str, y: &str) -> String {
        if self.twist == Twist::Swapped { format!("x = {y}, y = {x}") } else { format!("x = {x}, y = {y}") }
    }

    fn norm(&mut self, x: &Var) -> Var {
        let mut random = Random(3);
        let along = format!("axes = {}, keep_dims = bool(true)", ints(&[1]));
        let number = |value: f32| half(value);
        let magnitude = self.wide("abs", &format!("x = {x}"));
        let peak = if self.twist == Twist::NoPeak { "reduce_sum" } else { "reduce_max" };
        let peak = self.row(peak, &format!("{along}, x = {magnitude}"));
        let floored = self.row("maximum", &self.pair(&peak, &number(0.007_812_5)));
        let factor = self.row("real_div", &format!("x = {}, y = {floored}", number(4.0)));
        let scaled = self.wide("mul", &self.pair(x, &factor));
        let root = if self.twist == Twist::NoNumber {
            let roots = random.halves(self.columns, Random::any_half);
            self.model.halves(&[1, 1, self.columns, 1], &roots)
        } else {
            number(0.003_173_828_1)
        };
        let root = self.row("mul", &self.pair(&factor, &root));
        let squares = if self.twist == Twist::Square {
            self.wide("square", &format!("x = {scaled}"))
        } else {
            self.wide("mul", &format!("x = {scaled}, y = {scaled}"))
        };
        let mean = self.row("reduce_mean", &format!("{along}, x = {squares}"));
        let added = self.row("mul", &format!("x = {root}, y = {root}"));
        let total = self.row("add", &self.pair(&mean, &added));
        let inverse = self.row("rsqrt", &format!("epsilon = {}, x = {total}", number(0.0)));
        let unit = self.wide("mul", &self.pair(&scaled, &inverse));
        match self.twist {
            Twist::SumSeenBefore => self.see(x),
            Twist::FactorSeen => self.outputs.push(factor),
            Twist::ScaledSeen => self.see(&scaled),
            _ => {}
        }
        let weight = match self.twist {
            Twist::SumAsWeight => x.clone(),
            Twist::ColumnWeight => {
                let weights = random.halves(self.columns, Random::any_half);
                self.model.halves(&[1, 1, self.columns, 1], &weights)
            }
            _ => {
                let weights = random.halves(CHANNELS, |random| half::f16::from_f32(random.normal()));
                self.model.halves(&[1, CHANNELS, 1, 1], &weights)
            }
        };
        self.wide("mul", &self.pair(&unit, &weight))
    }

    fn see(&mut self, x: &Var) {
        let seen = self.wide("silu", &format!("x = {x}"));
        self.outputs.push(seen);
    }

    fn save(twist: Twist, columns: usize, path: &Path) {
        let mut program = Self { model: Model::new(), columns, twist, outputs: Vec::new() };
        let x = program.model.input("x", &[1, CHANNELS, columns, 1]);
        let given = if twist == Twist::BroadcastSum { 1 } else { columns };
        let y = program.model.input("y", &[1, CHANNELS, given, 1]);
        let sum = program.wide("add", &format!("x = {x}, y = {y}"));
        let mut normed = program.norm(if twist == Twist::NoSum { &x } else { &sum });
        if twist == Twist::Again {
            normed = program.norm(&normed);
        }
        if twist == Twist::Twice {
            let second = program.norm(&sum);
            program.outputs.push(second);
        }
        if twist == Twist::SumSeenAfter {
            program.see(&sum);
        }
        program.outputs.extend([sum, normed]);
        program.model.save(path, &program.outputs);
    }
}

/// Of each norm in the plan of the program at `path`, whether it adds first.
fn norms(path: &Path, watched: bool) -> Vec<bool> {
    let graph = lower(&Arc::new(ModelC::open(path).unwrap()), None).unwrap();
    let plan = Plan::new(&graph, watched).unwrap();
    let norm = |step: &Step| if let Step::Norm(norm) = step { Some(norm.addend.is_some()) } else { None };
    plan.steps.iter().filter_map(norm).collect()
}

/// The bits of every result of passes over numbers of all kinds.
fn run(path: &Path, executor: Executor) -> Vec<Vec<u16>> {
    let loaded = PortableDevice::new().with_executor(executor).load(path).unwrap();
    let signature = &loaded.functions()[0].signature;
    let mut random = Random(7);
    let mut state = loaded.new_state();
    let mut all = Vec::new();
    for pass in 0..6 {
        let mut inputs = signature.new_inputs();
        for input in &mut inputs {
            input.data_mut().fill_with(|| match (pass, random.below(60)) {
                (5, _) => random.any_half(),
                (3..5, 0) => random.nasty(),
                _ => half::f16::from_f32(random.normal()),
            });
        }
        let mut outputs = signature.new_outputs();
        loaded.predict(0, &inputs, state.as_mut(), &mut outputs).unwrap();
        all.extend(outputs.iter().map(|output| output.data().iter().map(|x| x.to_bits()).collect()));
    }
    all
}

#[test]
fn a_norm_is_one_step_where_nothing_else_sees_what_it_leaves_out() {
    let table: [(Twist, &[bool]); 15] = [
        (Twist::None, &[true]),
        (Twist::Swapped, &[true]),
        (Twist::Square, &[true]),
        (Twist::NoSum, &[false]),
        (Twist::BroadcastSum, &[false]),
        (Twist::SumSeenBefore, &[false]),
        (Twist::SumSeenAfter, &[true]),
        (Twist::Twice, &[true, false]),
        (Twist::Again, &[true, false]),
        (Twist::SumAsWeight, &[]),
        (Twist::ColumnWeight, &[]),
        (Twist::FactorSeen, &[]),
        (Twist::ScaledSeen, &[]),
        (Twist::NoPeak, &[]),
        (Twist::NoNumber, &[]),
    ];
    let folder = tempfile::tempdir().unwrap();
    for columns in [1, 3, 4] {
        for (twist, expected) in table {
            // With one column, a sum or a column's number has the shape that these are for.
            let expected = match (twist, columns) {
                (Twist::BroadcastSum | Twist::NoNumber, 1) => &[true],
                (Twist::SumAsWeight, 1) => &[false],
                _ => expected,
            };
            let path = folder.path().join(format!("{twist:?}{columns}"));
            Program::save(twist, columns, &path);
            assert_eq!(norms(&path, false), expected, "{twist:?} {columns}");
            assert_eq!(norms(&path, true), [false; 0], "{twist:?} {columns}");
            assert_eq!(run(&path, Executor::Plan), run(&path, Executor::Interpreter), "{twist:?} {columns}");
        }
    }
}

#[test]
fn every_norm_of_a_shard_is_one_step_and_adds_what_stands_before_it() {
    let shard = Shard { layers: 2, ..SMALL };
    let folder = tempfile::tempdir().unwrap();
    for width in [1, 4, 32] {
        for (output_norm, expected) in
            [(false, &[false, true, true, true][..]), (true, &[false, true, true, true, true])]
        {
            let path = folder.path().join(format!("{width}{output_norm}"));
            shard.save_widths(&path, 1, &[("main", width)], output_norm);
            assert_eq!(norms(&path, false), expected, "{width} {output_norm}");
        }
    }
}
