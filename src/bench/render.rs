//! The figures for people.

use std::fmt::{self, Display, Formatter};

use super::figure::Figure;
use super::report::{BenchReport, ClassFigures, DecodeFigures, PassFigures};

impl Display for BenchReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (machine, bundle) = (&self.machine, &self.bundle);
        let isa = machine.isa.as_deref().map(|isa| format!(", {isa}")).unwrap_or_default();
        writeln!(
            f,
            "{} on {}{isa}, {} of {} threads ({}, {}), {} rounds",
            self.device,
            machine.cpu,
            machine.threads,
            machine.cores,
            machine.system,
            machine.date,
            self.rounds
        )?;
        writeln!(
            f,
            "{}: {} layers, d {}, vocabulary {}, context {}, {}, {:.1} MB of weights",
            bundle.path,
            bundle.layers,
            bundle.hidden,
            bundle.vocab,
            bundle.context,
            bundle.quantization,
            bundle.weight_bytes as f64 / 1e6
        )?;
        let load = &self.load;
        writeln!(
            f,
            "load: {:.3} s to check every file, {:.3} s to load the shards, {:.3} s to make a session",
            load.check_seconds, load.model_seconds, load.session_seconds
        )?;
        let memory = &self.memory;
        writeln!(
            f,
            "memory: reads {} GB/s, copies {} GB/s; reads the weights in {} ms, {} GB/s",
            median(memory.read_gbps, 1),
            median(memory.copy_gbps, 1),
            median(memory.weights_ms, 2),
            median(memory.weights_gbps, 1)
        )?;
        writeln!(f, "\n  tokens  width  context         ms  weights GB/s  of a read  tokens/s")?;
        self.passes.iter().try_for_each(|pass| pass.line(f))?;
        for cost in &self.costs {
            writeln!(
                f,
                "  c at context {}: {} (a pass over {} tokens in passes over one)",
                cost.context,
                median(Some(cost.c), 3),
                cost.block
            )?;
        }
        if let Some(prefill) = &self.prefill {
            writeln!(
                f,
                "\nprefill: {} tokens, {} a pass, in {} ms, {} tokens/s",
                prefill.tokens,
                prefill.width,
                median(Some(prefill.ms), 1),
                median(Some(prefill.tokens_per_second), 1)
            )?;
        }
        self.decode.iter().try_for_each(|decode| decode.table(f))
    }
}

impl PassFigures {
    fn line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:>6}  {:>5}  {:>7}  {:>9}  {:>12}  {:>9}  {:>8}",
            self.tokens,
            self.width,
            self.context,
            median(Some(self.ms), 2),
            median(Some(self.weights_gbps), 1),
            median(self.of_read, 2),
            median(Some(self.tokens_per_second), 1)
        )
    }
}

impl DecodeFigures {
    fn table(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = self.classes.iter().map(|class| class.class.chars().count());
        let width = names.max().unwrap_or(0).max("class".len());
        let kept = if self.keep { ", with what the prompts before it taught" } else { "" };
        writeln!(f, "\ndecoding {} tokens behind each prompt{kept}, tokens/s:", self.tokens)?;
        writeln!(
            f,
            "  {:<width$}  prompts      plain  with drafts  ratio  tokens/pass      c  same tokens",
            "class"
        )?;
        self.classes.iter().try_for_each(|class| class.line(f, width))
    }
}

impl ClassFigures {
    fn line(&self, f: &mut Formatter<'_>, width: usize) -> fmt::Result {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        writeln!(
            f,
            "  {:<width$}  {:>7}  {:>9}  {:>11}  {:>5}  {:>11}  {:>5}  {}",
            self.class,
            self.prompts,
            median(Some(self.plain_tokens_per_second), 1),
            median(Some(self.speculative_tokens_per_second), 1),
            median(Some(self.ratio), 2),
            number(self.tokens_per_pass),
            number(self.cost),
            if self.equal { "yes" } else { "NO" }
        )
    }
}

fn median(figure: Option<Figure>, digits: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{:.digits$}", figure.median))
}
