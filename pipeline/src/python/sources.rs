//! The Python sources, which are part of the program.

/// A module of the stages.
pub(super) struct Source {
    /// Dotted name.
    pub(super) module: &'static str,
    /// Whether it is a package.
    pub(super) is_package: bool,
    /// Its text.
    pub(super) text: &'static str,
}

/// Embeds modules given as `name = "path below python/"`.
macro_rules! embed {
    ($($module:literal = $path:literal,)*) => {
        &[$(Source {
            module: $module,
            is_package: is_package($path),
            text: include_str!(concat!("../../../python/", $path)),
        },)*]
    };
}

/// The importer that serves the others; see its text.
pub(super) const IMPORTER: &str = include_str!("../../../python/embedded.py");

/// Every module of the package, by name.
pub(super) const SOURCES: &[Source] = embed! {
    "anepipe_stages" = "anepipe_stages/__init__.py",
    "anepipe_stages.dispatch" = "anepipe_stages/dispatch.py",
    "anepipe_stages.environment" = "anepipe_stages/environment.py",
    "anepipe_stages.fields" = "anepipe_stages/fields.py",
    "anepipe_stages.graph" = "anepipe_stages/graph/__init__.py",
    "anepipe_stages.graph.attention" = "anepipe_stages/graph/attention.py",
    "anepipe_stages.graph.export" = "anepipe_stages/graph/export.py",
    "anepipe_stages.graph.norm" = "anepipe_stages/graph/norm.py",
    "anepipe_stages.graph.ops" = "anepipe_stages/graph/ops.py",
    "anepipe_stages.graph.parameters" = "anepipe_stages/graph/parameters.py",
    "anepipe_stages.graph.stage" = "anepipe_stages/graph/stage.py",
    "anepipe_stages.graph.stateful" = "anepipe_stages/graph/stateful.py",
    "anepipe_stages.graph.weights" = "anepipe_stages/graph/weights.py",
    "anepipe_stages.registry" = "anepipe_stages/registry.py",
    "anepipe_stages.residency" = "anepipe_stages/residency.py",
};

const fn is_package(path: &str) -> bool {
    const SUFFIX: &[u8] = b"__init__.py";
    let path = path.as_bytes();
    match path.split_at_checked(path.len().saturating_sub(SUFFIX.len())) {
        Some((_, end)) => matches!(end, b"__init__.py"),
        None => false,
    }
}

/// The digest of all sources: the blake3 of every name and text, each preceded by its length, in order of names.
pub(super) fn digest() -> String {
    let mut hasher = blake3::Hasher::new();
    let importer = ("", IMPORTER);
    for (name, text) in SOURCES.iter().map(|source| (source.module, source.text)).chain([importer]) {
        for part in [name, text] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn python_files(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("__pycache__") {
                python_files(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "py") {
                into.push(path);
            }
        }
    }

    #[test]
    fn every_source_on_disk_is_embedded_under_its_name() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
        let mut files = Vec::new();
        python_files(&root.join("anepipe_stages"), &mut files);
        let mut on_disk: Vec<String> = files
            .iter()
            .map(|path| {
                let relative = path.strip_prefix(&root).unwrap().with_extension("");
                let dotted = relative.to_str().unwrap().replace('/', ".");
                dotted.strip_suffix(".__init__").map_or(dotted.clone(), str::to_owned)
            })
            .collect();
        on_disk.sort();
        let embedded: Vec<&str> = SOURCES.iter().map(|source| source.module).collect();
        assert_eq!(embedded, on_disk);
    }

    #[test]
    fn packages_are_the_modules_with_submodules() {
        for source in SOURCES {
            let has_submodules =
                SOURCES.iter().any(|other| other.module.starts_with(&format!("{}.", source.module)));
            assert_eq!(source.is_package, has_submodules, "{}", source.module);
        }
    }
}
