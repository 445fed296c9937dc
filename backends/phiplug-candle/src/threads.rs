//! Runs a pass on Candle's threads while the calling thread listens for Ctrl-C.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{atomic::{AtomicBool, Ordering}, mpsc},
    time::Duration,
};

use candle_core::{Error, Result};
use pyo3::prelude::*;

use crate::failed;

/// How long a signal may wait until it is seen.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(50);

/// Start the two pools, Candle's for quantized matrices and rayon's for everything else. This happens once in a process.
/// Return how many threads they have, which is another number than `threads` if they had been started before.
#[pyfunction]
pub fn start(threads: usize) -> (usize, usize) {
    // SAFETY: the caller holds the interpreter's lock, and Candle reads the variable two lines below, once.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", threads.to_string()) };
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global(); // an error says that it was built
    (candle_core::utils::barrier_pool().n_workers() + 1, rayon::current_num_threads())
}

/// Turn a panic into an error.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Error::Msg(format!("candle panicked: {}", text.unwrap_or("without a message"))))
    })
}

/// Return an error if somebody asked to stop.
pub fn check(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(Error::Msg("interrupted".into())) } else { Ok(()) }
}

/// Run `work` inside rayon's pool, where its parallel operations start without a change of threads, and release the
/// interpreter. This thread asks Python for signals meanwhile: only the main thread of Python ever gets one.
pub fn interruptible<T: Send>(py: Python<'_>, work: impl FnOnce(&AtomicBool) -> Result<T> + Send) -> PyResult<T> {
    let stop = AtomicBool::new(false);
    let (found, raised) = py.detach(|| {
        rayon::in_place_scope(|scope| {
            let (stop, (tell, told)) = (&stop, mpsc::channel());
            scope.spawn(move |_| drop(tell.send(guarded(|| work(stop)))));
            let mut raised = None;
            loop {
                match told.recv_timeout(BETWEEN_SIGNALS) {
                    Ok(found) => return (found, raised),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return (Err(Error::Msg("no answer".into())), raised),
                    Err(mpsc::RecvTimeoutError::Timeout) if raised.is_none() => {
                        raised = Python::attach(|py| py.check_signals()).err();
                        stop.store(raised.is_some(), Ordering::Relaxed);
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                }
            }
        })
    });
    match raised {
        Some(error) => Err(error),
        None => found.map_err(failed),
    }
}
