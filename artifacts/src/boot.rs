//! Which run of the operating system this is.
//!
//! What a process wrote and renamed is whole for every later reader until the machine loses power, whether or not it has
//! reached the disk. So a record that has not been flushed may be trusted exactly as long as the boot lasts.

use std::sync::OnceLock;

/// The identifier of this boot, or `None` where the system does not tell: then nothing unflushed is trusted.
pub(crate) fn id() -> Option<&'static str> {
    static ID: OnceLock<Option<String>> = OnceLock::new();
    ID.get_or_init(read).as_deref()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn read() -> Option<String> {
    let text = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn read() -> Option<String> {
    let output =
        std::process::Command::new("/usr/sbin/sysctl").args(["-n", "kern.bootsessionuuid"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| output.status.success() && !text.is_empty())
}
