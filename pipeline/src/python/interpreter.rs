//! The embedded `CPython`: its library's version, and starting it in isolation.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use pyo3::ffi;

use super::version::PythonVersion;

/// The version text of the loaded library, as in `3.11.7 (main, …)`. Does not start Python.
pub(super) fn library_version() -> &'static str {
    // `Py_GetVersion` writes a static buffer when it is first called (from Python 3.12 on it marks the buffer as written
    // before it is), so two threads must not make that call at once.
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        // SAFETY: `Py_GetVersion` may be called before Python is started and returns a static, NUL-terminated string. This
        // is the only call of it before Python is started, and `OnceLock` makes it happen once.
        let text = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) };
        text.to_string_lossy().into_owned()
    })
}

/// Starts Python in this process, once, without any influence from outside: no `PYTHON*` variables, no user packages, no
/// `site`, no bytecode files, no signal handlers, hashes seeded with 0, UTF-8 throughout. `home` holds the standard
/// library. The thread does not hold the interpreter's lock afterwards.
pub(super) fn start(home: &Path) -> Result<(), String> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _once = STARTING.lock().map_err(|_| "an earlier start failed".to_owned())?;
    let (built, running) = (PythonVersion::built(), PythonVersion::running());
    // The layout of the structures below is that of one minor version.
    if !built.is_compatible_with(running) {
        return Err(format!("this program was built for Python {built} but loaded the library of {running}"));
    }
    let home = CString::new(home.as_os_str().as_bytes()).map_err(|_| "Python's home has a NUL".to_owned())?;

    // SAFETY: `Py_IsInitialized` may be called at any time.
    if unsafe { ffi::Py_IsInitialized() } != 0 {
        return Err("Python is already running in this process".to_owned());
    }
    preinitialize()?;
    let mut config = MaybeUninit::<ffi::PyConfig>::zeroed();
    // SAFETY: the library has the minor version that `ffi::PyConfig` was declared for (checked above), and the function
    // fills in every field of the structure it is given.
    let mut config = unsafe {
        ffi::PyConfig_InitIsolatedConfig(config.as_mut_ptr());
        config.assume_init()
    };
    config.use_hash_seed = 1;
    config.hash_seed = 0;
    config.site_import = 0;
    config.user_site_directory = 0;
    config.write_bytecode = 0;
    config.install_signal_handlers = 0;
    config.buffered_stdio = 0;
    let config = &raw mut config;
    // SAFETY: `config` was initialized above and lives to the end of this function; `home` is NUL-terminated and is copied.
    // `Py_InitializeFromConfig` is called once, with Python preinitialized and not running, under the lock above. Clearing
    // frees only what the library allocated in `config`. After a start this thread holds the interpreter's lock, which is
    // what `PyEval_SaveThread` asks for.
    unsafe {
        let mut status = ffi::PyConfig_SetBytesString(config, &raw mut (*config).home, home.as_ptr());
        if ffi::PyStatus_Exception(status) == 0 {
            status = ffi::Py_InitializeFromConfig(config);
        }
        ffi::PyConfig_Clear(config);
        check(status)?;
        ffi::PyEval_SaveThread();
    }
    Ok(())
}

/// Settles memory and text encoding, which must come before any string is handed over.
fn preinitialize() -> Result<(), String> {
    let mut config = MaybeUninit::<ffi::PyPreConfig>::zeroed();
    // SAFETY: the function fills in every field of the structure it is given; the caller checked that the library has the
    // minor version the structure was declared for, and that Python is not running.
    unsafe {
        ffi::PyPreConfig_InitIsolatedConfig(config.as_mut_ptr());
        let mut config = config.assume_init();
        config.utf8_mode = 1;
        check(ffi::Py_PreInitialize(&raw const config))
    }
}

/// Turns a status into a result.
fn check(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: the status comes from the library; its message is null or a static, NUL-terminated string.
    unsafe {
        if ffi::PyStatus_Exception(status) == 0 {
            return Ok(());
        }
        if status.err_msg.is_null() {
            return Err(format!("Python asked to exit with code {}", status.exitcode));
        }
        Err(CStr::from_ptr(status.err_msg).to_string_lossy().into_owned())
    }
}
