//! A report for people.

use std::fmt::{self, Display, Formatter};

use anepipe_runtime::token::TokenId;

use super::report::{Case, Divergence, ExactReport};

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ngram => "ngram",
            Self::Wrong => "wrong",
            Self::Foretold => "foretold",
            Self::Sampled => "sampled",
        })
    }
}

impl Divergence {
    pub(super) fn sentence(&self, equal: usize, prompts: usize) -> String {
        let token = |token: Option<TokenId>| token.map_or("the end".to_owned(), |token| token.to_string());
        format!(
            "{} of {prompts} prompts differ from plain decoding; the first is {}, case {}, generated token {}: {} instead of {}",
            prompts - equal,
            self.prompt,
            self.case,
            self.token,
            token(self.speculative),
            token(self.plain),
        )
    }
}

impl Display for ExactReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "exactness on {}, {} prompts, up to {} tokens each: {}",
            self.device,
            self.prompts,
            self.max_new,
            if self.pass { "ok" } else { "FAILED" }
        )?;
        writeln!(
            f,
            "  {:<9} {:>6} {:>8} {:>8} {:>9} {:>9}  tokens/pass",
            "case", "equal", "tokens", "passes", "proposed", "accepted"
        )?;
        for case in &self.cases {
            writeln!(
                f,
                "  {:<9} {:>6} {:>8} {:>8} {:>9} {:>9}  {}",
                case.case,
                case.equal,
                case.tokens,
                case.passes,
                case.proposed,
                case.accepted,
                ratio(case.tokens_per_pass)
            )?;
        }
        let width = self.classes.iter().map(|class| class.class.chars().count()).max().unwrap_or(0);
        for class in &self.classes {
            writeln!(
                f,
                "  ngram, {:<width$}  {:>4} prompts  {} tokens/pass",
                class.class,
                class.prompts,
                ratio(class.tokens_per_pass)
            )?;
        }
        match &self.reason {
            Some(reason) => writeln!(f, "{reason}"),
            None => Ok(()),
        }
    }
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}
