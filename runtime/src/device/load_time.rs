//! How long loading took, apart from running.
//!
//! The first time that Core ML loads a function, it compiles it for the machine it runs on, for minutes, and keeps the result; later
//! loads take seconds. A figure that mixes the two says nothing, so each load is kept by itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One load of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadTime {
    /// The `.mlmodelc` folder.
    pub shard: PathBuf,
    /// The function's name in the program.
    pub function: String,
    /// From asking for it to having it.
    pub load: Duration,
    /// What its first pass took, buffers included; absent as long as it has not run.
    pub first_pass: Option<Duration>,
}

impl fmt::Display for LoadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, function, load, first_pass } = self;
        let shard = shard.file_name().unwrap_or(shard.as_os_str()).to_string_lossy();
        write!(f, "{shard}, function {function}: loaded in {:.3} s", load.as_secs_f64())?;
        match first_pass {
            Some(first) => write!(f, ", first pass in {:.3} s", first.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// The loads of a device, which its shards add their first passes to.
#[derive(Debug, Clone, Default)]
pub struct LoadTimes(Arc<Mutex<Vec<LoadTime>>>);

impl LoadTimes {
    /// Notes a load. Gives the number to note its first pass by.
    pub fn loaded(&self, shard: &Path, function: &str, load: Duration) -> usize {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(LoadTime {
            shard: shard.to_owned(),
            function: function.to_owned(),
            load,
            first_pass: None,
        });
        times.len() - 1
    }

    /// Notes what the first pass of load number `index` took. Later passes are not first ones, and change nothing.
    pub fn passed(&self, index: usize, pass: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(time) = times.get_mut(index) {
            time.first_pass.get_or_insert(pass);
        }
    }

    /// All loads, in the order in which they were done.
    pub fn all(&self) -> Vec<LoadTime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_pass_counts_and_each_load_has_its_own() {
        let times = LoadTimes::default();
        let shard = Path::new("shards/layers_00_20.mlmodelc");
        let narrow = times.loaded(shard, "t1", Duration::from_millis(1500));
        let wide = times.loaded(shard, "t4", Duration::from_secs(113));
        times.passed(wide, Duration::from_millis(40));
        times.passed(wide, Duration::from_millis(8));
        times.passed(7, Duration::from_millis(8));
        let shown: Vec<String> = times.all().iter().map(LoadTime::to_string).collect();
        assert_eq!((narrow, wide), (0, 1));
        assert_eq!(
            shown,
            [
                "layers_00_20.mlmodelc, function t1: loaded in 1.500 s",
                "layers_00_20.mlmodelc, function t4: loaded in 113.000 s, first pass in 0.040 s",
            ]
        );
    }
}
