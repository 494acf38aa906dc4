//! Models split over several files: `name-00001-of-00003.gguf`, each a GGUF file of its own.
//!
//! Every part carries `split.no` (from 0), `split.count` and `split.tensors.count` (of all parts together); the model's
//! own metadata stands in the first. Alignment is each file's own, as llama.cpp reads them.

use std::path::{Path, PathBuf};

use crate::{GgufError, error::SplitProblem, gguf::Part};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// What a file says about the split it belongs to.
pub(crate) struct Split {
    /// This part, from 0.
    no: u64,
    /// Parts in all; more than one.
    pub(crate) count: u64,
    /// Tensors in all parts together.
    tensors: u64,
}

impl Split {
    /// The split that `part` belongs to, if it belongs to one of more than one part.
    pub(crate) fn of(part: &Part) -> Result<Option<Self>, GgufError> {
        match part.metadata.optional(COUNT)? {
            None | Some(0 | 1) => Ok(None),
            Some(count) => {
                Ok(Some(Self { no: part.metadata.u64(NO)?, count, tensors: part.metadata.u64(TENSORS)? }))
            }
        }
    }

    /// The first part and the others in order, given one of them.
    pub(crate) fn gather(&self, given: Part) -> Result<(Part, Vec<Part>), GgufError> {
        let file = given.file.clone();
        let Some(siblings) = Siblings::of(&file, self.no, self.count) else {
            let expected = suffix(self.no, self.count);
            let problem = SplitProblem::Name { no: self.no, count: self.count, expected };
            return Err(GgufError::Split { file, problem: Box::new(problem) });
        };
        let mut given = Some(given);
        let mut part = |no| {
            let part = match given.take_if(|_| no == self.no) {
                Some(part) => part,
                None => Part::open(&siblings.path(no))?,
            };
            self.check(&part, no)?;
            Ok(part)
        };
        let first = part(0)?;
        let rest = (1..self.count).map(part).collect::<Result<Vec<_>, GgufError>>()?;
        let found = rest.iter().chain([&first]).map(|part| part.tensors.len() as u64).sum();
        if found == self.tensors {
            return Ok((first, rest));
        }
        let problem = Box::new(SplitProblem::TensorCount { promised: self.tensors, found });
        Err(GgufError::Split { file, problem })
    }

    /// Part `no` says what it should of the split.
    fn check(&self, part: &Part, no: u64) -> Result<(), GgufError> {
        for (key, expected) in [(NO, no), (COUNT, self.count), (TENSORS, self.tensors)] {
            let found = part.metadata.u64(key)?;
            if found != expected {
                let (expected, found) = (expected.to_string(), found.to_string());
                let problem = Box::new(SplitProblem::Disagrees { key: key.to_owned(), expected, found });
                return Err(GgufError::Split { file: part.file.clone(), problem });
            }
        }
        Ok(())
    }
}

/// How the name of part `no` (from 0) of `count` ends.
fn suffix(no: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", no.saturating_add(1))
}

/// The names of a model's parts.
struct Siblings<'a> {
    dir: &'a Path,
    prefix: &'a str,
    count: u64,
}

impl<'a> Siblings<'a> {
    /// The names of all parts, if `file` is named as part `no` of `count`.
    fn of(file: &'a Path, no: u64, count: u64) -> Option<Self> {
        let prefix = file.file_name()?.to_str()?.strip_suffix(&suffix(no, count))?;
        Some(Self { dir: file.parent()?, prefix, count })
    }

    fn path(&self, no: u64) -> PathBuf {
        self.dir.join(format!("{}{}", self.prefix, suffix(no, self.count)))
    }
}
