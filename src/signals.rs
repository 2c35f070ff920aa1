//! Signals: what ends the work in order, and what is not to end it at all.

use anyhow::Context;

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
