//! Mounting a file system that nobody else sees.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{call, done};

/// The numbers are the same on every architecture, as the calls are newer than the common table.
const SYS_FSOPEN: libc::c_long = 430;
const SYS_FSCONFIG: libc::c_long = 431;
const SYS_FSMOUNT: libc::c_long = 432;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just opened it for the call that returned it, so nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mounts a file system of this type without a place in the tree: its root is the descriptor, and it goes with it (Linux 5.2).
pub(crate) fn detached(kind: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the string is borrowed for the call.
    let context = call("fsopen", || owned(unsafe { libc::syscall(SYS_FSOPEN, kind.as_ptr(), FSOPEN_CLOEXEC) }))?;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes no strings.
    let create = || unsafe { libc::syscall(SYS_FSCONFIG, context.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0) };
    call("fsconfig", || done(create()))?;
    // SAFETY: the call takes numbers only.
    call("fsmount", || owned(unsafe { libc::syscall(SYS_FSMOUNT, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) }))
}

/// Mounts a file system of this type at a directory.
pub(crate) fn at(kind: &CStr, directory: &CStr) -> io::Result<()> {
    // SAFETY: the strings are borrowed for the call, and these types need no data.
    let mount = || unsafe { libc::mount(kind.as_ptr(), directory.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    call("mount", || done(mount()))
}

/// Takes away what [`at`] mounted.
pub(crate) fn unmount(directory: &CStr) -> io::Result<()> {
    // SAFETY: the string is borrowed for the call.
    call("umount2", || done(unsafe { libc::umount2(directory.as_ptr(), libc::MNT_DETACH) }))
}
