//! Signals: what ends the work in order, and what is not to end it at all.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;

/// How many files are being written in the background, which an end of the program in a handler waits for.
static WRITING: AtomicUsize = AtomicUsize::new(0);

/// Does it; where the program has to end meanwhile, it ends after that, if that takes no longer than some seconds.
pub(crate) fn write_to_the_end<T>(write: impl FnOnce() -> T) -> T {
    WRITING.fetch_add(1, Ordering::SeqCst);
    let written = write();
    WRITING.fetch_sub(1, Ordering::SeqCst);
    written
}

/// Calls `ended` when the user or the system asks for the end of the work: Ctrl-C, `SIGTERM` (as batch systems send
/// before they kill) and `SIGHUP` (a closed terminal). What was ignored when the program started, as `nohup` does,
/// stays so.
///
/// A file that grows above the limit for files (`ulimit -f`) becomes an error of the write instead of a signal.
#[cfg(unix)]
pub(crate) fn catch(ended: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    const ENDING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
    let ignored: Vec<_> = ENDING.into_iter().filter(|&s| is_ignored(s)).collect();
    ctrlc::set_handler(ended).context("cannot start the thread that waits for signals")?;
    for signal in ignored.into_iter().chain([libc::SIGXFSZ]) {
        // SAFETY: ignoring a signal runs no code of this process.
        #[expect(unsafe_code, reason = "a call of the C library")]
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    Ok(())
}

/// Makes an error of a mapped file that was made shorter: reading behind its end is `SIGBUS`. Of anything else that
/// signal does what it did before.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) fn answer_shortened_files() {
    use std::mem::zeroed;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicBool;

    use libc::{c_int, c_void, iovec, sigaction, siginfo_t};

    static BEFORE: OnceLock<sigaction> = OnceLock::new();

    extern "C" fn answer(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
        /// Times 10 ms, which is 5 s.
        const WAITS: usize = 500;
        static WAIT: libc::timespec = libc::timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        // SAFETY: only what a handler of signals may do: looking into a list of whole numbers, `writev`, `nanosleep`,
        // `_exit`, `pause` and `sigaction`. The system gives a valid `info`.
        #[expect(unsafe_code, reason = "a handler of signals")]
        unsafe {
            let Some(file) = cones::checkpoint::mapped_file_at((*info).si_addr() as usize) else {
                match BEFORE.get() {
                    Some(before) => sigaction(signal, before, std::ptr::null_mut()),
                    None => libc::_exit(1),
                };
                return; // and the instruction is tried again
            };
            static FIRST: AtomicBool = AtomicBool::new(true);
            if FIRST.swap(false, Ordering::Relaxed) {
                let parts: [&[u8]; 3] = [
                    b"error: `",
                    file,
                    b"`: expected the file as it was when the run began, found a shorter one\n\n\
                      hint: run again, with the model left alone\n",
                ];
                let parts = parts.map(|part| iovec {
                    iov_base: part.as_ptr() as *mut c_void,
                    iov_len: part.len(),
                });
                libc::writev(2, parts.as_ptr(), parts.len() as c_int);
                let mut waits = 0;
                while WRITING.load(Ordering::SeqCst) > 0 && waits < WAITS {
                    libc::nanosleep(&raw const WAIT, std::ptr::null_mut());
                    waits += 1;
                }
                libc::_exit(1);
            }
            loop {
                libc::pause(); // another thread says it
            }
        }
    }

    // SAFETY: a `sigaction` is plain numbers, for which zeros are values; the handler is as above.
    #[expect(unsafe_code, reason = "calls of the C library")]
    unsafe {
        let (mut before, mut action): (sigaction, sigaction) = (zeroed(), zeroed());
        if sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before) != 0 {
            return;
        }
        BEFORE.get_or_init(|| before);
        action.sa_sigaction = answer as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// The system tells it in another way.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) fn answer_shortened_files() {}

/// Makes an error of an abort, which is how the standard library ends a program whose memory or stack has run out, once
/// it has said so: a status that scripts know, and the next step, in place of a core.
#[cfg(unix)]
pub(crate) fn answer_aborts() {
    extern "C" fn answer(_: libc::c_int) {
        const SAID: &[u8] = b"error: the program cannot go on; the line above says why\n\n\
            hint: if memory ran out, end other programs, or raise the limit (ulimit -v)\n";
        // SAFETY: only what a handler of signals may do: `write` of a constant, and `_exit`.
        #[expect(unsafe_code, reason = "a handler of signals")]
        unsafe {
            libc::write(2, SAID.as_ptr().cast(), SAID.len());
            libc::_exit(1);
        }
    }

    // SAFETY: the handler is as above.
    #[expect(unsafe_code, reason = "a call of the C library")]
    unsafe {
        let answer = answer as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::signal(libc::SIGABRT, answer);
    }
}

/// The system tells it in another way.
#[cfg(not(unix))]
pub(crate) fn answer_aborts() {}

#[cfg(unix)]
fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a `sigaction` is plain numbers, for which zeros are values; without a new action the call only fills it
    // in.
    #[expect(unsafe_code, reason = "a call of the C library")]
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Calls `ended` when the user asks for the end of the work.
#[cfg(not(unix))]
pub(crate) fn catch(ended: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    ctrlc::set_handler(ended).context("cannot start the thread that waits for signals")
}
