//! The unwinder of a program that aborts where it panics.
//!
//! Nothing unwinds the stack of such a program, and its file has no tables to do so (see `build.rs` of the tools). The
//! standard library still refers to the C compiler's unwinder, and for a backtrace holds a reader of DWARF, of compressed
//! sections and of mangled names: a fifteenth of the file. Here is an unwinder that finds no frames, so that the linker
//! sees that all of that is never run, and a panic says what and where, as ever, whatever RUST_BACKTRACE asks for.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::process::abort;

/// Before it says that a panic has no frames, the standard library makes a string, and holds a lock meanwhile. Where there is no
/// memory for the string, that is the next thing to say, for which it waits for the lock, and so for itself. Nobody is to ask for
/// frames here.
#[used]
// SAFETY: what stands here are pointers to functions of the C ABI, called one after the other before `main`.
#[unsafe(link_section = ".init_array")]
static WITHOUT_FRAMES: extern "C" fn() = forget_backtraces;

extern "C" fn forget_backtraces() {
    // SAFETY: the name ends with a zero. Before `main` there is one thread, so nobody reads the environment meanwhile.
    unsafe { libc::unsetenv(c"RUST_BACKTRACE".as_ptr()) };
}

/// `_URC_END_OF_STACK` of the C++ ABI: there are no more frames.
const END_OF_STACK: c_int = 5;

// SAFETY of the names below: they are the unwinder's, which is in no other place of a static binary: the linker takes a
// library's only where no object defines it, and refuses two. Arguments and results are those of the C++ ABI's unwind.h.

/// Calls `trace` for each frame, of which there are none.
// SAFETY: see above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_trace: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// What is asked of a frame or of an exception, or done to one. None was ever handed out, so none of this is called.
macro_rules! never_called {
    ($(fn $name:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(
            // SAFETY: see above.
            #[unsafe(no_mangle)]
            extern "C" fn $name($(_: $argument),*) -> $result {
                abort()
            }
        )*
    };
}

never_called! {
    fn _Unwind_ForcedUnwind(*mut c_void, *const c_void, *mut c_void) -> c_int;
    fn _Unwind_GetCFA(*mut c_void) -> usize;
    fn _Unwind_GetDataRelBase(*mut c_void) -> usize;
    fn _Unwind_GetIP(*mut c_void) -> usize;
    fn _Unwind_GetIPInfo(*mut c_void, *mut c_int) -> usize;
    fn _Unwind_GetLanguageSpecificData(*mut c_void) -> *const c_void;
    fn _Unwind_GetRegionStart(*mut c_void) -> usize;
    fn _Unwind_GetTextRelBase(*mut c_void) -> usize;
    fn _Unwind_Resume(*mut c_void) -> !;
    fn _Unwind_SetGR(*mut c_void, c_int, usize) -> ();
    fn _Unwind_SetIP(*mut c_void, usize) -> ();
}
